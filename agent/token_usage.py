"""Tokens that a language model took for one description, counted by LangChain's own callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Usage:
    """Tokens read and written by language models; zero where none is used or the endpoint does not say."""

    read: int = 0
    written: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.read + other.read, self.written + other.written)

    def cost(self, price: tuple[float, float] | None) -> float | None:
        """In the unit of `price` (for a million tokens read, and written); None where no price is known."""
        return None if price is None else (self.read * price[0] + self.written * price[1]) / 1e6


NO_USAGE = Usage()


def metered(work: Callable[[], Result]) -> tuple[Result, Usage]:
    """The result of `work` with the tokens of every LangChain call in it, this thread's only."""
    from langchain_core.callbacks import get_usage_metadata_callback

    with get_usage_metadata_callback() as counted:
        result = work()
    models = counted.usage_metadata.values()
    return result, Usage(sum(m["input_tokens"] for m in models), sum(m["output_tokens"] for m in models))
