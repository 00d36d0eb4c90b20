"""Outcomes for the names of a run, and what they come to: shares of true names, and the run's own verdicts beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eval.statistics.intervals import wilson

if TYPE_CHECKING:
    from eval.faithfulness.dynamic_scores import Projection

CONDITIONS: Final = ("forced", "natural")
VERDICTS: Final = ("supported", "weak", "contradicted", "not testable", "not tested")


@dataclass(frozen=True)
class Measured:
    """One head under one condition; scores are phi*, 0 … 1."""

    score: float
    percentile: float  # among the other heads, ties half, 0 … 100
    others_mean: float
    shuffled: float | None  # phi* of the same sources with others' targets; None where shuffling says nothing
    true: bool
    others_true: float  # share of the other heads of which the same name would be true


@dataclass(frozen=True)
class NameCheck:
    """One named head; `forced` and `natural` are None where the name gives no pairs, for the reason `why`."""

    layer: int
    head: int
    operation: str
    verdict: str  # of the run's own test
    n_pairs: int
    k: int | None
    forced: Measured | None
    natural: Measured | None
    why: str = ""
    recorded: bool = True  # the name of the head; else another of its operations

    def measured(self, condition: str) -> Measured | None:
        """Under "forced" or "natural"."""
        found: Measured | None = getattr(self, condition)
        return found


@dataclass(frozen=True)
class NamesTable:
    """All named heads of a run on one model."""

    run: int
    n_layers: int
    n_heads: int  # of the whole model
    statuses: Mapping[str, int]  # heads of the run that are ok, unclear and failed
    rows: tuple[NameCheck, ...]
    projection: Projection = "folded"
    found: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by condition, as `found_heads` counts

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; shares with the ends of Wilson's 95 % interval, of names unless it is said otherwise."""
        all_tested = [row for row in self.rows if row.forced is not None]
        names, tested = ([row for row in rows if row.recorded] for rows in (self.rows, all_tested))
        return {
            "run": self.run,
            "projection": self.projection,
            "heads_of_the_model": self.n_heads,
            "statuses": dict(self.statuses),
            "named": len(names),
            "tested": len(tested),
            "not_testable": dict(Counter(row.why for row in names if row.forced is None)),
            "without_shuffle": sum(row.forced is not None and row.forced.shuffled is None for row in tested),
            "all": shares(tested),
            "each_operation": shares(all_tested) if len(names) < len(self.rows) else None,
            "found": {name: dict(one) for name, one in self.found.items()},
            "other_heads": {name: _others(tested, name) for name in CONDITIONS},
            "halves": self._halves(tested),
            "operations": by_operation(tested),
            "verdicts": by_verdict(names),
            "heads": [asdict(row) for row in self.rows],
        }

    def _halves(self, tested: Sequence[NameCheck]) -> list[dict[str, Any]]:
        """The lower half has the layers below n_layers / 2; a layer in the middle belongs to the upper one."""
        halves = _grouped(tested, lambda row: 2 * row.layer >= self.n_layers)
        return [{"half": name, **shares(halves.get(upper, []))} for upper, name in ((False, "lower"), (True, "upper"))]


def shares(rows: Sequence[NameCheck]) -> dict[str, Any]:
    """How many of `rows` are true under either condition: `{"heads", "forced", "natural"}`."""
    return {"heads": len(rows)} | {name: asdict(wilson(_true(rows, name), len(rows))) for name in CONDITIONS}


def by_operation(tested: Sequence[NameCheck]) -> list[dict[str, Any]]:
    """The same operation by operation, the one with most heads first."""
    groups = _grouped(tested, lambda row: row.operation)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0])))
    return [{"operation": name, **shares(rows)} for name, rows in ordered]


def by_verdict(rows: Sequence[NameCheck]) -> list[dict[str, Any]]:
    """What the run's own test said against what the running model says; `not_run` are names without pairs."""
    groups = _grouped(rows, lambda row: row.verdict)
    table = []
    for verdict in (name for name in VERDICTS if name in groups):
        tested = [row for row in groups[verdict] if row.forced is not None]
        table.append({"verdict": verdict, "not_run": len(groups[verdict]) - len(tested), **shares(tested)})
    return table


def _true(rows: Sequence[NameCheck], condition: str) -> int:
    return sum(found.true for row in rows if (found := row.measured(condition)) is not None)


def _others(tested: Sequence[NameCheck], condition: str) -> float | None:
    """Mean over names of the share of other heads that they would be true of."""
    values = [found.others_true for row in tested if (found := row.measured(condition)) is not None]
    return sum(values) / len(values) if values else None


def _grouped(rows: Sequence[NameCheck], key: Callable[[NameCheck], Hashable]) -> dict[Hashable, list[NameCheck]]:
    groups: dict[Hashable, list[NameCheck]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
