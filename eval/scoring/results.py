"""What passes between the parts of scoring: described heads, questions, judged items, scores of heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.results.descriptions import HeadDescription
from eval.statistics.intervals import Estimate
from maps_engine.results import HeadMapping, MappingRow

HeadKey = tuple[int, int]  # layer, head


@dataclass(frozen=True, slots=True)
class Subject:
    """One head of the collection: its mapping and what was said of it."""

    mapping: HeadMapping
    description: HeadDescription

    @property
    def key(self) -> HeadKey:
        return self.mapping.layer, self.mapping.head

    @property
    def described(self) -> bool:
        return self.description.status == "ok"


@dataclass(frozen=True, slots=True)
class Item:
    """One question to a judge: a row, and whether (or how strongly) it is the head's.

    Items of one `group` are shown together. `truth` is 1 for a row of the head and 0 for any other; in simulation a
    row holds one candidate target, and `truth` is its rank among the source's own, larger for stronger, 0 for others.
    """

    group: int
    row: MappingRow
    truth: float
    kind: str  # "own" | "same sources" | "other rows" | "permuted" | "intruder" | "distractor"


@dataclass(frozen=True, slots=True)
class Judged:
    """An item with the judge's rating, 0 … 1; None where the judge gave no usable answer."""

    group: int
    kind: str
    truth: float
    rating: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One description judged on the items of one head."""

    score: float | None
    n: int = 0  # items (or sources, sets, pairs) that count
    unanswered: int = 0  # items without a usable answer
    low: float | None = None
    high: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)  # further numbers of the same answers
    why: str = ""  # why there is no score, or no answer to some items


@dataclass(frozen=True, slots=True)
class HeadScore:
    """One head by one scorer: its own description, and the one that was swapped in as the control."""

    layer: int
    head: int
    scorer: str
    operation: str
    own: Outcome
    swapped: Outcome | None
    swapped_from: HeadKey | None = None
    same_operation: bool = False  # no other operation was left to swap in, so the swap is no control

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HeadScore:
        """The inverse of `to_json`. Raises KeyError or TypeError for anything else."""
        swapped, other = value["swapped"], value["swapped_from"]
        parts = {
            "own": Outcome(**value["own"]),
            "swapped": None if swapped is None else Outcome(**swapped),
            "swapped_from": None if other is None else (int(other[0]), int(other[1])),
        }
        return cls(**(dict(value) | parts))


@dataclass(frozen=True, slots=True)
class ScorerSummary:
    """One line of the table: a scorer over all heads, with its control."""

    scorer: str
    judge: str
    chance: float
    n_heads: int
    n_items: int
    unanswered: int
    score: Estimate  # mean over heads
    swapped: Estimate
    gap: Estimate  # mean of own minus swapped, over heads whose swap changed the operation
    verdict: str  # "yes" | "no" | "too few heads"
    why: str = ""  # what the verdict rests on

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)
