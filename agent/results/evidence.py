"""What a describer may see of a head: its rows, and what was counted of it on words that no test uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from maps_engine.qk.kinds import sentence
from maps_engine.results import ConstantPart, HeadMapping, HeadPart, MappingRow


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One known operation and how alike it is to the head's mapping (cosine, -1 … 1)."""

    operation: str
    similarity: float
    description: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    part: int | None = None  # of the head, whose rows are alike; None: those of the whole head


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
    retrieved_of_parts: Mapping[int, tuple[Retrieved, ...]] = field(default_factory=dict)
    intruder: IntruderTest | None = None
    known: tuple[KnownScore, ...] = ()  # operations that the head passes on, best first
    classes: tuple[ClassScore, ...] = ()  # classes of words that it maps to others, clearest first
    shared: SharedScore | None = None  # the kind of words that it writes whatever it reads
    part_classes: tuple[PartClass, ...] = ()  # what its parts do, largest part first
    parts: tuple[HeadPart, ...] = ()  # groups of words for which it writes alike; without held-out rows
    constant: ConstantPart | None = None  # what it writes whatever it reads, as part of its rows
    attends: str = ""  # what it attends to, in a sentence without a subject

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
            retrieved=tuple(one for one in retrieved if one.part is None),
            retrieved_of_parts=_by_part(retrieved),
            intruder=intruder,
            known=known,
            classes=classes,
            shared=shared,
            part_classes=part_classes,
            parts=tuple(_told_part(mapping, one) for one in mapping.parts),
            constant=replace(part, targets=mapping.trained(part.targets)) if part else None,
            attends=sentence(mapping.attention) if mapping.attention else "",
        )


def _told_part(mapping: HeadMapping, part: HeadPart) -> HeadPart:
    """What may be told of a part: nothing of words whose rows are held out, whatever part they are in."""
    kept_back = {row.token_id for row in mapping.held_out_rows}
    rows = tuple(row for row in mapping.evidence(part.rows) if row.token_id not in kept_back)
    return replace(part, rows=rows, targets=mapping.trained(part.targets), held_out_rows=())


def _by_part(retrieved: Sequence[Retrieved]) -> dict[int, tuple[Retrieved, ...]]:
    places = dict.fromkeys(one.part for one in retrieved if one.part is not None)
    return {place: tuple(one for one in retrieved if one.part == place) for place in places}
