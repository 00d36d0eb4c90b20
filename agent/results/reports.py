"""One head from mapping to tested description, with how the agent came to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.llm.protocol import Message
from agent.llm.token_usage import NO_USAGE, Usage
from agent.results.account import account
from agent.results.attention_values import attention_values
from agent.results.descriptions import HeadDescription
from agent.results.evidence import IntruderTest, Retrieved
from agent.results.outcomes import HeadOperation, PairTest, TestResult, Verdict
from maps_engine.results import EngineSettings, HeadMapping

if TYPE_CHECKING:  # results are read where there is no torch
    from maps_engine.ov.pair_scores import PairSet


@dataclass(frozen=True, slots=True)
class Trial:
    """New pairs tried on the head, whose outcome the describer is told; other pairs judge the final description."""

    verdict: Verdict
    reason: str = ""  # why there is nothing to try
    pairs: PairTest | None = None
    hits: tuple[tuple[str, str], ...] = ()
    misses: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # source, target, what the head promotes instead


@dataclass(frozen=True, slots=True)
class Attempt:
    """One description on the way to the final one, and what came of it."""

    description: HeadDescription
    trial: Trial | None = None  # None where nothing was tried
    # "proposed" | "changed" | "kept" | "withdrawn" | "failed" | "counted"; of parts "part", and "named by a part"
    decision: str = "proposed"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what was said, without settings and reply, and its trial."""
        said = self.description
        names = ("status", "operation", "observed_pattern", "input_strings", "confidence", "reason")
        trial = asdict(self.trial) if self.trial else None
        return {"decision": self.decision} | {name: getattr(said, name) for name in names} | {"trial": trial}


@dataclass(frozen=True, slots=True)
class NamedPart:
    """What a language model says of a part of a head, and the pairs that judge it."""

    description: HeadDescription
    judging: PairSet
    words: tuple[int, ...]  # ids of the part's rows, by which it is known again

    def is_of(self, mapping: HeadMapping) -> bool:
        """Whether the part in its place is the one that was named: parts are read anew by who takes a head over."""
        place = self.description.part
        if place is None or place >= len(mapping.parts):
            return False
        return tuple(row.token_id for row in mapping.parts[place].rows) == self.words


@dataclass(frozen=True, slots=True)
class Trace:
    """How the agent came to a description."""

    attempts: tuple[Attempt, ...] = ()
    conversation: tuple[Message, ...] = ()
    intruder: IntruderTest | None = None
    seen: tuple[str, ...] = ()  # sources, casefolded, that the describer saw or asked for: never judged on
    judging: PairSet | None = None  # pairs for the final verdict, where they are chosen already
    named_parts: tuple[NamedPart, ...] = ()  # what the describer says of parts, largest first
    usage: Usage = NO_USAGE  # of all questions to language models

    def to_json(self) -> dict[str, Any]:
        """`attempts, conversation, intruder, seen, usage` as plain JSON values."""
        return {
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "conversation": [asdict(message) for message in self.conversation],
            "intruder": asdict(self.intruder) if self.intruder else None,
            "seen": list(self.seen),
            "usage": asdict(self.usage),
        }


NO_TRACE = Trace()


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that made a description: checkpoint, engine settings, describer with its settings, embedder of retrieval."""

    checkpoint: str  # where it was opened from
    fingerprint: str
    family: str
    settings: EngineSettings
    describer: str
    describer_settings: dict[str, Any]
    embedder: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as they are stored and exported."""
        return asdict(self) | {"settings": self.settings.to_json()}


@dataclass(frozen=True, slots=True)
class HeadReport:
    """One head from mapping to tested description."""

    mapping: HeadMapping
    retrieved: tuple[Retrieved, ...]
    description: HeadDescription
    test: TestResult
    provenance: Provenance
    trace: Trace = NO_TRACE
    alternatives: tuple[HeadDescription, ...] = ()  # other descriptions, best first, until tests have chosen
    operations: tuple[HeadOperation, ...] = ()  # all that the head does, `description` first

    @property
    def account(self) -> str:
        """What the head attends to and what it writes there, in a sentence or two."""
        said = self.description
        return account(self.mapping.attention, said.status, said.observed_pattern)

    def to_json(self) -> dict[str, Any]:
        """The keys that others rely on: `model, layer, …, rows, …, test, tested_rows, …, attempts, conversation`."""
        return (
            self.mapping.to_json()
            | {
                "account": self.account,
                "attention": attention_values(self.mapping.attention),
                "retrieved": [_retrieved(one) for one in self.retrieved],
                "description": self.description.to_json() | {"operations": [one.to_json() for one in self.operations]},
                "test": self.test.to_json(),
                "tested_rows": self.test.rows_to_json(),
                "provenance": self.provenance.to_json(),
            }
            | self.trace.to_json()
        )


def _retrieved(one: Retrieved) -> dict[str, Any]:
    of_part = {} if one.part is None else {"part": one.part}
    return {"operation": one.operation, "similarity": round(one.similarity, 4)} | of_part
