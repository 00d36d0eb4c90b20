"""A description as a judge sees it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.results.descriptions import HeadDescription


@dataclass(frozen=True, slots=True)
class Said:
    """The words of a description, without its evidence: all that a judge may go by."""

    operation: str
    input_strings: str = ""
    observed_pattern: str = ""

    @classmethod
    def of(cls, description: HeadDescription) -> Said:
        """The words of `description`."""
        return cls(description.operation, description.input_strings, description.observed_pattern)

    @property
    def text(self) -> str:
        """Everything in one line."""
        parts = (self.operation.rstrip(".") + ".", self.observed_pattern, self.input_strings)
        return " ".join(part.strip() for part in parts if part.strip())
