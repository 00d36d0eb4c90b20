"""The scorers on rows: how their items are built, what the judge is asked, and the measure.

Each is a line of `ROW_SCORERS`; `judge_items` puts the questions and takes the measure. Generation, which asks the
weights, is in `eval.scoring.questions.generation`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from eval.judges.protocol import Judge, Rating
from eval.judges.said import Said
from eval.scoring.measures import (
    Measure,
    area_under_curve,
    balanced_accuracy,
    complete_groups,
    concordance,
    concordances,
    intruders_found,
)
from eval.scoring.questions.items import (
    SET_SIZE,
    Builder,
    detection_items,
    fuzzing_items,
    intruder_items,
    simulation_items,
)
from eval.scoring.results import Item, Judged, Outcome
from eval.scoring.statistics import exact_share, interval_of_area, interval_of_groups
from maps_engine.results import MappingRow

MIN_SIDE: Final = 3  # items needed on each side, or groups
GENERATION: Final = "generation"

Ask = Callable[[Judge, Said, Sequence[MappingRow]], Sequence[Rating]]


@dataclass(frozen=True)
class Part:
    """A further number from the same answers: a measure over the items of some kinds."""

    kinds: tuple[str, ...]
    measure: Measure
    needs_decisions: bool = False


@dataclass(frozen=True)
class RowScorer:
    """One scorer: `grouped` where the items of a group are one question of their own."""

    name: str
    question: str
    build: Builder
    ask: Ask
    measure: Measure
    chance: float
    grouped: bool = False
    parts: Mapping[str, Part] = field(default_factory=dict)


_SIDES = ("own", "same sources", "other rows")
ROW_SCORERS: Final[Mapping[str, RowScorer]] = MappingProxyType({
    one.name: one
    for one in (
        RowScorer(
            "detection", "Which of these rows are the head's? Area under the curve.",
            detection_items, lambda judge, said, rows: judge.rate_rows(said, rows), area_under_curve, 0.5,
            parts={
                "balanced accuracy": Part(_SIDES, balanced_accuracy, needs_decisions=True),
                "same sources, another head's targets": Part(("own", "same sources"), area_under_curve),
                "rows of other heads": Part(("own", "other rows"), area_under_curve),
            },
        ),
        RowScorer(
            "fuzzing", "Own rows against rows with targets permuted among sources. Area under the curve.",
            fuzzing_items, lambda judge, said, rows: judge.rate_rows(said, rows), area_under_curve, 0.5,
            parts={"balanced accuracy": Part(("own", "permuted"), balanced_accuracy, needs_decisions=True)},
        ),
        RowScorer(
            "intruder", f"Four rows of the head and one intruder. Share of {SET_SIZE} found.",
            intruder_items, lambda judge, said, rows: judge.find_intruder(said, rows), intruders_found, 1 / SET_SIZE,
            grouped=True,
        ),
        RowScorer(
            "simulation", "Targets of new sources, ranked. Concordance with the head's own order.",
            simulation_items, lambda judge, said, rows: judge.rate_targets(said, rows), concordance, 0.5,
            grouped=True, parts={"order of own targets": Part(("own",), concordance)},
        ),
    )
})  # fmt: skip

SCORERS: Final = (*ROW_SCORERS, GENERATION)
CHANCE: Final[Mapping[str, float]] = MappingProxyType(
    {name: one.chance for name, one in ROW_SCORERS.items()} | {GENERATION: 0.5}
)


def judge_items(scorer: RowScorer, judge: Judge, said: Said, items: Sequence[Item], *, seed: int = 0) -> Outcome:
    """The judge's answers on one head as a score with its interval. Raises BudgetSpent, DescriberDown."""
    missing = _too_few(scorer, items)
    if missing:
        return Outcome(None, why=missing)
    judged = _answers(scorer, judge, said, items)
    unanswered = sum(one.rating is None for one in judged)
    score = scorer.measure(judged)
    low, high = _interval(scorer, judged, score, seed) or (None, None)
    return Outcome(
        score,
        n=len(complete_groups(judged)) if scorer.grouped else len(judged) - unanswered,
        unanswered=unanswered,
        low=low,
        high=high,
        parts={
            name: None if part.needs_decisions and not judge.decides(said) else part.measure(_of_kinds(judged, part))
            for name, part in scorer.parts.items()
        },
        why=f"{unanswered} of {len(judged)} items without a usable answer" if unanswered else "",
    )


def _answers(scorer: RowScorer, judge: Judge, said: Said, items: Sequence[Item]) -> list[Judged]:
    groups: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group].append(item)
    judged: list[Judged] = []
    for group, members in groups.items():
        ratings = scorer.ask(judge, said, [item.row for item in members])
        judged += [Judged(group, i.kind, i.truth, rating) for i, rating in zip(members, ratings, strict=True)]
    return judged


def _too_few(scorer: RowScorer, items: Sequence[Item]) -> str:
    """Why these items cannot be scored; empty where they can."""
    if scorer.grouped:
        n = len({item.group for item in items})
        return "" if n >= MIN_SIDE else f"only {n} sets or sources could be made; at least {MIN_SIDE} are needed"
    own = sum(item.truth > 0 for item in items)
    fewer = min(own, len(items) - own)
    return "" if fewer >= MIN_SIDE else f"only {fewer} rows on one side; at least {MIN_SIDE} are needed"


def _interval(
    scorer: RowScorer, judged: Sequence[Judged], score: float | None, seed: int
) -> tuple[float, float] | None:
    if score is None:
        return None
    if scorer.measure is intruders_found:
        n = len(complete_groups(judged))
        return exact_share(score * n, n)
    if scorer.measure is concordance:
        return interval_of_groups(concordances(judged), seed=seed)
    return interval_of_area(judged, seed=seed)


def _of_kinds(judged: Sequence[Judged], part: Part) -> list[Judged]:
    return [one for one in judged if one.kind in part.kinds]
