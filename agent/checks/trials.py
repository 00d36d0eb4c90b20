"""Pairs tried on a head while its description is being made.

Of a description's new pairs a third (at most TRIAL_PAIRS) are tried and their outcome told to the describer; the others
are left for the final verdict. A set that is small is left whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from agent.checks.new_pairs import HIGH, score_new_pairs, verdict_of
from agent.checks.pair_scorer import PairScorer
from agent.results.outcomes import PairTest
from agent.results.reports import Trial
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import HeadMapping

TRIAL_PAIRS: Final = 20
MIN_TRIAL: Final = 5
TOLD_MISSES: Final = 8
TOO_FEW: Final = f"fewer than {3 * MIN_TRIAL} new pairs that may be tried: all are kept for the final test"


def split_pairs(pairs: PairSet, kept_back: Collection[int] = ()) -> tuple[PairSet, PairSet]:
    """(trial, judging): a third is tried, where that is at least five pairs; else all are kept for judging.

    Sources among `kept_back` (token ids) are never tried: the outcome would show a row that is held out.
    """
    whole = range(len(pairs.sources))
    free = [i for i in whole if pairs.sources[i] not in kept_back]
    tried = free[: min(TRIAL_PAIRS, len(whole) // 3)]
    if len(tried) < MIN_TRIAL:
        return part_of(pairs, ()), pairs
    return part_of(pairs, tried), part_of(pairs, [i for i in whole if i not in set(tried)])


def part_of(pairs: PairSet, places: Sequence[int]) -> PairSet:
    """The pairs at `places`."""
    return PairSet(
        tuple(pairs.sources[i] for i in places), tuple(pairs.targets[i] for i in places), pairs.k, pairs.others
    )


def score_each(pairs: PairSet, mapping: HeadMapping, scorer: PairScorer) -> tuple[PairTest, list[bool]]:
    """The test of the whole set on all heads, and which of its pairs hit on the head of `mapping`."""
    hits: list[bool] = scorer.hits(pairs)[:, mapping.layer, mapping.head].tolist()
    return score_new_pairs(pairs, mapping, scorer), hits


def run_trial(pairs: PairSet, mapping: HeadMapping, scorer: PairScorer, *, percentile: float = HIGH) -> Trial:
    """The verdict on trial pairs, with those that hit and those that missed; held-out rows have no part in it.

    percentile: among the other heads, that supports the claim (`agent.checks.new_pairs.percentile_needed`).
    """
    if not pairs.sources:
        return Trial("not testable", TOO_FEW)
    tested, hit = score_each(pairs, mapping, scorer)
    text = scorer.maps.checkpoint.vocabulary.text
    missed = [i for i, one in enumerate(hit) if not one]
    told = missed[:TOLD_MISSES]
    rows = scorer.rows_of(mapping, [pairs.sources[i] for i in told])
    spelled = [(text(s), text(t[0])) for s, t in zip(pairs.sources, pairs.targets, strict=True)]
    misses = [(*spelled[i], tuple(t.token for t in row.targets[:3])) for i, row in zip(told, rows, strict=True)]
    return Trial(
        verdict_of(tested, None, percentile=percentile),
        pairs=tested,
        hits=tuple(pair for pair, one in zip(spelled, hit, strict=True) if one),
        misses=(*misses, *((*spelled[i], ()) for i in missed[TOLD_MISSES:])),
    )
