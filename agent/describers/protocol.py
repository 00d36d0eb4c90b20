"""What every describer offers: evidence in, one HeadDescription out, never an exception for a bad answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from agent.llm.protocol import Message, Tool
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence
from agent.results.reports import Attempt

CHOOSE: Final = "choose:"  # before the name of a language model that picks among what was counted


class Describer(Protocol):
    """Names what a head does from its rows. Failures come back as `status="failed"` with a reason."""

    @property
    def name(self) -> str:
        """As given on the command line, for example `lexical` or `openai:MODEL`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change the answer besides the evidence: prompt version, temperature, thresholds."""

    def describe(self, evidence: Evidence) -> HeadDescription:
        """The description of one head; "unclear" where the evidence is too weak."""


@runtime_checkable
class RankingDescriber(Protocol):
    """A describer that gives several descriptions, among which tests choose."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """As of every describer."""

    def ranked(self, evidence: Evidence) -> tuple[HeadDescription, ...]:
        """At least one description, best first; where nothing can be named, one that is "unclear"."""


@dataclass(frozen=True, slots=True)
class Said:
    """A description with what was said on the way; `decision` as in `Attempt`."""

    description: HeadDescription
    decision: str = "proposed"
    conversation: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposed:
    """New (source, target) pairs; `problem` says why there are none. `exact`: spacing and case count."""

    pairs: tuple[tuple[str, str], ...]
    conversation: tuple[Message, ...] = ()
    problem: str = ""
    exact: bool = False


@runtime_checkable
class PairProposer(Protocol):
    """A describer that can propose pairs by which its own description is tested."""

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed:
        """At most `n` pairs that the description predicts, with no source in `excluded`."""


@runtime_checkable
class RevisingDescriber(PairProposer, Protocol):
    """A describer that can use tools, and revise its description once it was tested on new pairs."""

    max_revisions: int

    def propose(self, evidence: Evidence, *, tools: Sequence[Tool] = ()) -> Said:
        """A first description."""

    def revise(self, evidence: Evidence, attempts: Sequence[Attempt], *, tools: Sequence[Tool] = ()) -> Said:
        """The last of `attempts` kept, changed or withdrawn, in view of how its test went."""


@dataclass(frozen=True, slots=True)
class SaidOfParts:
    """Descriptions of parts of a head, largest first."""

    descriptions: tuple[HeadDescription, ...]
    conversation: tuple[Message, ...] = ()


@runtime_checkable
class PartNamer(PairProposer, Protocol):
    """A describer that names the parts of a head one by one, or says that two of them are one."""

    most_parts: int  # of a head, the largest; 0: none is named

    def name_parts(self, evidence: Evidence) -> SaidOfParts:
        """What each of the largest parts does, where a pattern shows."""
