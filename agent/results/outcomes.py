"""How well descriptions did on tokens that their describer did not see, and the operations that stood the test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from maps_engine.results import MappingRow

Verdict = Literal["supported", "weak", "contradicted", "not testable"]


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


MOST_ALSO: Final = 4  # other names of an operation that a page tells


@dataclass(frozen=True, slots=True)
class HeadOperation:
    """One of the things that a head does, with a test of its own."""

    operation: str
    observed_pattern: str
    kind: str  # of the claim that it stands on, as `Claim.kind`; "said" for the words of a language model
    test: TestResult
    part: int | None = None  # of the mapping's parts, by its place; None where its words lie in several or in none
    share: float | None = None  # of that part, and of those joined to it
    joined: tuple[int, ...] = ()  # other parts for which the head does the same
    describer: str = ""  # who said it; empty where that was not stored
    also: tuple[str, ...] = ()  # other names that tests support and that say the same of its words

    @property
    def parts(self) -> tuple[int, ...]:
        """Its part, and those joined to it."""
        return () if self.part is None else (self.part, *self.joined)

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and its other names."""
        return (self.operation, *self.also)

    @property
    def also_said(self) -> str:
        """Its other names in a line; empty where it has none."""
        more = len(self.also) - MOST_ALSO
        names = [*self.also[:MOST_ALSO], *([f"{more} more"] if more > 0 else [])]
        return f"(also {', '.join(names)})" if names else ""

    def to_json(self) -> dict[str, Any]:
        """`operation, observed_pattern, kind, part, joined, also, share, describer, rows, test` as JSON values."""
        names = ("operation", "observed_pattern", "kind", "part", "share", "describer")
        return {name: getattr(self, name) for name in names} | {
            "joined": list(self.joined),
            "also": list(self.also),
            "rows": self.test.rows_to_json(),
            "test": self.test.to_json(),
        }
