"""Scores of heads to one line a scorer: the mean, the control, and whether the scorer can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

from eval.scoring.questions.scorers import CHANCE, SCORERS
from eval.scoring.results import HeadScore, ScorerSummary
from eval.statistics.intervals import MIN_HEADS, Estimate, mean_over_heads


def summarise(scores: Sequence[HeadScore], *, judge: str, seed: int = 0) -> list[ScorerSummary]:
    """One summary for each scorer that ran, in the order of SCORERS."""
    ran = {one.scorer for one in scores}
    return [_summary([s for s in scores if s.scorer == name], name, judge, seed) for name in SCORERS if name in ran]


def _summary(scores: Sequence[HeadScore], name: str, judge: str, seed: int) -> ScorerSummary:
    own = [one.own.score for one in scores if one.own.score is not None]
    pairs = [
        (one.own.score, one.swapped.score)
        for one in scores
        if one.swapped is not None
        and not one.same_operation
        and one.own.score is not None
        and one.swapped.score is not None
    ]
    gap = mean_over_heads([a - b for a, b in pairs], seed=seed)
    verdict, why = _verdict(gap)
    return ScorerSummary(
        scorer=name,
        judge=judge,
        chance=CHANCE[name],
        n_heads=len(own),
        n_items=sum(one.own.n for one in scores if one.own.score is not None),
        unanswered=sum(one.own.unanswered for one in scores),
        score=mean_over_heads(own, seed=seed),
        swapped=mean_over_heads([b for _, b in pairs], seed=seed),
        gap=gap,
        verdict=verdict,
        why=why,
    )


def _verdict(gap: Estimate) -> tuple[str, str]:
    """A paired test: the interval of the mean difference over heads must lie above 0."""
    if gap.value is None or gap.low is None or gap.high is None:
        return "too few heads", f"heads with a control: {gap.n}; at least {MIN_HEADS} are needed"
    if gap.low > 0:
        return "yes", f"a head's own description scores {gap.value:.2f} higher than that of another head"
    if gap.high < 0:
        return "no", "descriptions of other heads score higher than a head's own"
    return "no", "the interval of the gap includes 0: this scorer says nothing about these descriptions"
