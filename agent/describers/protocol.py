"""What every describer offers: evidence in, one HeadDescription out, never an exception for a bad answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from agent.llm.protocol import Message, Tool
from agent.results import Attempt, Evidence, HeadDescription


class Describer(Protocol):
    """Names what a head does from its rows. Failures come back as `status="failed"` with a reason."""

    @property
    def name(self) -> str:
        """As given on the command line, for example `lexical` or `openai:MODEL`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change the answer besides the evidence: prompt version, temperature, thresholds."""

    def describe(self, evidence: Evidence) -> HeadDescription: ...


@dataclass(frozen=True, slots=True)
class Said:
    """A description with what was said on the way; `decision` as in `Attempt`."""

    description: HeadDescription
    decision: str = "proposed"
    conversation: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposed:
    """New (source, target) pairs; `problem` says why there are none."""

    pairs: tuple[tuple[str, str], ...]
    conversation: tuple[Message, ...] = ()
    problem: str = ""


@runtime_checkable
class PairProposer(Protocol):
    """A describer that can think of pairs for its own description."""

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed: ...


@runtime_checkable
class RevisingDescriber(PairProposer, Protocol):
    """A describer that can look further, hear how its description did on trial pairs, and think again."""

    max_revisions: int

    def propose(self, evidence: Evidence, *, tools: Sequence[Tool] = ()) -> Said: ...
    def revise(self, evidence: Evidence, attempts: Sequence[Attempt], *, tools: Sequence[Tool] = ()) -> Said: ...
