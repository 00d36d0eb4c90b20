"""Results of the agent: frozen dataclasses, the only things that pass between its steps.

A description is `ok`, `unclear` or `failed`; a failure keeps its reason and the raw reply and is never a text
that pretends to be a description.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from agent.llm.protocol import Message
from agent.llm.token_usage import NO_USAGE, Usage
from maps_engine.results import ConstantPart, EngineSettings, HeadMapping, HeadPart, MappingRow

if TYPE_CHECKING:  # results are read where there is no torch
    from maps_engine.ov.pair_scores import PairSet

Status = Literal["ok", "unclear", "failed"]
Verdict = Literal["supported", "weak", "contradicted", "not testable"]


# What the n of a claim are, by its kind.
_UNITS = {
    "pairs": "known pairs",
    "scored": "known pairs tried",
    "class": "words tried",
    "shared": "strongest targets, the two most frequent words left out",
    "part": "targets in common",
    "form": "rows",
    "related": "rows",
    "constant-targets": "rows",
    "rows-shown": "rows",
    "facts-shown": "facts",
    "typed": "distinct targets",
    "target-field": "distinct targets",
    "target-form": "distinct targets",
}


def counted_unit(kind: str) -> str:
    """What a claim of this kind counts: rows, known pairs, distinct targets, else distinct tokens."""
    return _UNITS.get(kind, "tokens")


@dataclass(frozen=True, slots=True)
class Claim:
    """One counted statement: it holds for `k` of `n` rows (or tokens), where chance alone gives `expected`."""

    kind: str  # "pairs" | "form" | "constant-targets" | "input-field" | "target-field" | "input-form" | …
    label: str
    k: int
    n: int
    expected: float = 0.0  # of the n, under the null named in `agent.describers.calibration`
    strength: float = 0.0  # log-likelihood ratio against that null, in nats
    examples: tuple[str, ...] = ()  # what the k are: words, or `source → target`
    lead: float = 1.0  # mean reciprocal rank of the fitting target in the k rows: 1 when it is always the strongest

    def __str__(self) -> str:
        return f"{self.label} ({self.k} of {self.n})"

    @property
    def counted(self) -> str:
        """What the `n` are: rows, known pairs, distinct targets or tokens."""
        return counted_unit(self.kind)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One known operation and how alike it is to the head's mapping (cosine, -1 … 1)."""

    operation: str
    similarity: float
    description: str = ""
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class KnownScore:
    """How a head scores on a part of a known operation's pairs (`agent.checks.offers.catalogue_scores`)."""

    operation: str  # name of the relation
    score: float  # phi, 0 … 1
    shuffled: float  # phi of the same sources with each other's targets
    percentile: float
    n_pairs: int
    k: int


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How often a head maps words of one class to a member of another (`agent.checks.offers.class_scores`)."""

    source: str  # name of a class of words
    target: str
    score: float  # share of the words of the class with a member of the other among their strongest targets
    outside: float  # the same of all other words, or the mean over all heads where that is more
    strength: float  # log-likelihood ratio of the two, in nats
    n_words: int
    words: tuple[str, ...] = ()  # the members that are mapped to most often

    @property
    def label(self) -> str:
        """`X to Y`, or `X to other X`."""
        return f"{self.source} to {'other ' if self.source == self.target else ''}{self.target}"


@dataclass(frozen=True, slots=True)
class SharedScore:
    """How often a head writes tokens of one class, whatever word it reads (`agent.checks.offers.class_scores`)."""

    target: str  # name of a class of tokens
    share: float  # of the strongest targets of all words, without the members that are written most
    first: float  # share of the words whose one strongest target is of the class
    expected: float  # what `share` has to reach
    n_words: int
    n_targets: int  # of all words together
    words: tuple[str, ...] = ()  # the members that are written most often

    @property
    def label(self) -> str:
        """`words to X`."""
        return f"words to {self.target}"


@dataclass(frozen=True, slots=True)
class PartClass:
    """What class of words a part of a head reads, and what class it writes (`agent.checks.offers.part_classes`)."""

    part: int  # its place among the parts of the mapping
    source: str  # name of a class of words
    target: str  # name of a class of tokens
    k: int  # of the n strongest targets that its words have in common, those of the class
    n: int
    expected: float  # of the n, by the class's rate in the vocabulary
    strength: float  # of these k against that, in nats
    n_words: int  # words of the source class among those that found the part
    written: tuple[str, ...] = ()  # words of the target class that are in common, strongest first

    @property
    def label(self) -> str:
        """`X to "a", "b"`; where no words are in common `X to Y`, or `X to other X`."""
        if self.written:
            return f"{self.source} to " + ", ".join(f'"{word}"' for word in self.written)
        return f"{self.source} to {'other ' if self.source == self.target else ''}{self.target}"


@dataclass(frozen=True, slots=True)
class IntruderTest:
    """How often a judge told rows of the head from rows of other heads (`agent.checks.intruder`); `chance` is the share
    that guessing finds."""

    judge: str
    found: int
    n: int
    chance: float

    @property
    def share(self) -> float:
        """Share of trials in which the intruder was found."""
        return self.found / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a describer may see of a head. Held-out rows are not part of it."""

    model: str
    layer: int
    head: int
    source: str
    rows: tuple[MappingRow, ...]
    suppressed_rows: tuple[MappingRow, ...] = ()
    retrieved: tuple[Retrieved, ...] = ()
    intruder: IntruderTest | None = None
    known: tuple[KnownScore, ...] = ()  # operations that the head passes on, best first
    classes: tuple[ClassScore, ...] = ()  # classes of words that it maps to others, clearest first
    shared: SharedScore | None = None  # the kind of words that it writes whatever it reads
    part_classes: tuple[PartClass, ...] = ()  # what its parts do, largest part first
    parts: tuple[HeadPart, ...] = ()  # groups of words for which it writes alike; without held-out rows
    constant: ConstantPart | None = None  # what it writes whatever it reads, as part of its rows

    @classmethod
    def of(
        cls,
        mapping: HeadMapping,
        retrieved: tuple[Retrieved, ...] = (),
        intruder: IntruderTest | None = None,
        known: tuple[KnownScore, ...] = (),
        classes: tuple[ClassScore, ...] = (),
        shared: SharedScore | None = None,
        part_classes: tuple[PartClass, ...] = (),
    ) -> Evidence:
        """The part of `mapping` that a describer may see."""
        part = mapping.constant
        return cls(
            model=mapping.model,
            layer=mapping.layer,
            head=mapping.head,
            source=mapping.source,
            rows=mapping.evidence(mapping.rows),
            suppressed_rows=mapping.evidence(mapping.suppressed_rows),
            retrieved=retrieved,
            intruder=intruder,
            known=known,
            classes=classes,
            shared=shared,
            part_classes=part_classes,
            parts=tuple(_told_part(mapping, one) for one in mapping.parts),
            constant=replace(part, targets=mapping.trained(part.targets)) if part else None,
        )


def _told_part(mapping: HeadMapping, part: HeadPart) -> HeadPart:
    """What may be told of a part: nothing of words whose rows are held out, whatever part they are in."""
    kept_back = {row.token_id for row in mapping.held_out_rows}
    rows = tuple(row for row in mapping.evidence(part.rows) if row.token_id not in kept_back)
    return replace(part, rows=rows, targets=mapping.trained(part.targets), held_out_rows=())


@dataclass(frozen=True, slots=True)
class HeadDescription:
    """What a head does, in words. `operation` is the short label; `reason` says why it is unclear or failed."""

    status: Status
    describer: str
    input_strings: str = ""
    observed_pattern: str = ""
    operation: str = ""
    confidence: float = 0.0  # 0 … 1
    reasoning: str = ""
    claims: tuple[Claim, ...] = ()
    reason: str = ""
    raw_reply: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    part: int | None = None  # the part of the head that it is about, by its place; None: the whole head

    @property
    def scored(self) -> bool:
        """Whether a part of the operation's own pairs chose it, or its describer was told of them: others test it."""
        told = any(claim.kind == "facts-shown" for claim in self.claims)
        return told or (bool(self.claims) and self.claims[0].kind in ("scored", "class", "shared", "part"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; claims as `{kind, label, k, n, expected, strength, examples}`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PairTest:
    """Relation score of pairs generated from the description, on this head and on all heads of the model."""

    n_pairs: int
    k: int
    score: float  # phi of this head, 0 … 1
    percentile: float  # share of the other heads with a smaller phi, ties half, 0 … 100
    others_mean: float
    others_max: float
    n_others: int
    shuffled: float | None = None  # phi of this head for each other's targets; None where that says nothing

    @property
    def hits(self) -> int:
        """Pairs whose target is among the top k of this head."""
        return round(self.score * self.n_pairs)


@dataclass(frozen=True, slots=True)
class RowTest:
    """Rows that satisfy the claimed operation: those shown to the describer and those held out."""

    shown_k: int
    shown_n: int
    held_out_k: int
    held_out_n: int


@dataclass(frozen=True, slots=True)
class TestedRow:
    """What the head maps a word to by which a description was tested, read as the test reads heads."""

    __test__ = False  # not a pytest class

    row: MappingRow  # without targets where they were not read
    wanted: str  # what the description says that the word is mapped to; empty where any of many targets will do
    hit: bool  # whether that is among the k strongest targets


@dataclass(frozen=True, slots=True)
class TestResult:
    """How well a description predicts the head on tokens that the describer did not see."""

    __test__ = False  # not a pytest class

    verdict: Verdict
    operation: str
    reason: str = ""
    pairs: PairTest | None = None
    rows: RowTest | None = None
    tested_rows: tuple[TestedRow, ...] = ()  # some of the new words, hits and misses in the proportion of the test

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; absent parts are null. The tested rows stand beside the head's other rows."""
        return {
            "verdict": self.verdict,
            "operation": self.operation,
            "reason": self.reason,
            "pairs": asdict(self.pairs) if self.pairs else None,
            "rows": asdict(self.rows) if self.rows else None,
        }

    def rows_to_json(self) -> list[dict[str, Any]]:
        """The tested rows as `{token, token_id, salience, targets, wanted, hit}`."""
        return [asdict(one.row) | {"wanted": one.wanted, "hit": one.hit} for one in self.tested_rows]


@dataclass(frozen=True, slots=True)
class HeadOperation:
    """One of the things that a head does, with a test of its own."""

    operation: str
    observed_pattern: str
    kind: str  # of the claim that it stands on, as `Claim.kind`; "said" for the words of a language model
    test: TestResult
    part: int | None = None  # of the mapping's parts, by its place; None where its words lie in several or in none
    share: float | None = None  # of that part

    def to_json(self) -> dict[str, Any]:
        """`operation, observed_pattern, kind, part, share, rows, test` as plain JSON values."""
        names = ("operation", "observed_pattern", "kind", "part", "share")
        return {name: getattr(self, name) for name in names} | {
            "rows": self.test.rows_to_json(),
            "test": self.test.to_json(),
        }


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
    decision: str = "proposed"  # "proposed" | "changed" | "kept" | "withdrawn" | "failed" | "counted"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what was said, without settings and reply, and its trial."""
        said = self.description
        names = ("status", "operation", "observed_pattern", "input_strings", "confidence", "reason")
        trial = asdict(self.trial) if self.trial else None
        return {"decision": self.decision} | {name: getattr(said, name) for name in names} | {"trial": trial}


@dataclass(frozen=True, slots=True)
class Trace:
    """How the agent came to a description."""

    attempts: tuple[Attempt, ...] = ()
    conversation: tuple[Message, ...] = ()
    intruder: IntruderTest | None = None
    seen: tuple[str, ...] = ()  # sources, casefolded, that the describer saw or asked for: never judged on
    judging: PairSet | None = None  # pairs for the final verdict, where they are chosen already
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

    def to_json(self) -> dict[str, Any]:
        """The keys that others rely on: `model, layer, …, rows, …, test, tested_rows, …, attempts, conversation`."""
        return (
            self.mapping.to_json()
            | {
                "retrieved": [{"operation": r.operation, "similarity": round(r.similarity, 4)} for r in self.retrieved],
                "description": self.description.to_json() | {"operations": [one.to_json() for one in self.operations]},
                "test": self.test.to_json(),
                "tested_rows": self.test.rows_to_json(),
                "provenance": self.provenance.to_json(),
            }
            | self.trace.to_json()
        )
