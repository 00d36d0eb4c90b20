"""Pairs tried on a head while its description is being made; several heads in flight share one pass over the model.

A third of a description's new pairs (at most TRIAL_PAIRS) are tried, and the describer is told the outcome; the others
are left for the final verdict. Where a third is fewer than MIN_TRIAL, nothing is tried.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.checks.new_pairs import pair_test, verdict_of
from agent.checks.pair_cache import PairCachingEngine
from agent.results import PairTest, Trial
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairScores, PairSet
from maps_engine.results import HeadMapping, MappingRow

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
    return PairSet(tuple(pairs.sources[i] for i in places), tuple(pairs.targets[i] for i in places), pairs.k)


@dataclass
class Scorer:
    """The engine shared by threads: one works at a time, and scores the pairs of all that wait in the same pass."""

    engine: MapsEngine
    lock: threading.RLock = field(default_factory=threading.RLock)
    _waiting: list[tuple[str, PairSet]] = field(default_factory=list)
    _gate: threading.Lock = field(default_factory=threading.Lock)

    def score_each(self, pairs: PairSet, mapping: HeadMapping) -> tuple[PairTest, list[bool]]:
        """The test of the whole set on all heads, and which of its pairs hit on this one."""
        each = self._each(pairs, mapping.source)
        at = mapping.layer, mapping.head
        whole = sum(one.score for one in each[1:]) + each[0].score
        hits = [bool(one.score[at] > 0.5) for one in each]
        return pair_test(whole / len(each), pairs, mapping), hits

    def rows_of(self, mapping: HeadMapping, ids: Sequence[int]) -> tuple[MappingRow, ...]:
        """Rows of given tokens on this head."""
        with self.lock:
            return self.engine.at(mapping.source).rows_of(mapping.layer, mapping.head, ids)

    def _each(self, pairs: PairSet, source: str) -> list[PairScores]:
        wanted = (source, pairs)
        with self._gate:
            self._waiting.append(wanted)
        with self.lock:
            if isinstance(self.engine, PairCachingEngine):
                with self._gate:
                    together, self._waiting = self._waiting, []
                if together:
                    by_source: dict[str, list[PairSet]] = {}
                    for name, one in together:
                        by_source.setdefault(name, []).append(one)
                    self.engine.prepare(by_source)
            return self.engine.score_pairs(singles(pairs), source=source)


def singles(pairs: PairSet) -> list[PairSet]:
    """One set for each pair."""
    return [PairSet((s,), (t,), pairs.k) for s, t in zip(pairs.sources, pairs.targets, strict=True)]


def run_trial(pairs: PairSet, mapping: HeadMapping, scorer: Scorer) -> Trial:
    """The verdict on trial pairs, with those that hit and those that missed; held-out rows have no part in it."""
    if not pairs.sources:
        return Trial("not testable", TOO_FEW)
    tested, hit = scorer.score_each(pairs, mapping)
    text = scorer.engine.checkpoint.vocabulary.text
    missed = [i for i, one in enumerate(hit) if not one]
    told = missed[:TOLD_MISSES]
    rows = scorer.rows_of(mapping, [pairs.sources[i] for i in told])
    spelled = [(text(s), text(t[0])) for s, t in zip(pairs.sources, pairs.targets, strict=True)]
    misses = [(*spelled[i], tuple(t.token for t in row.targets[:3])) for i, row in zip(told, rows, strict=True)]
    return Trial(
        verdict_of(tested, None),
        pairs=tested,
        hits=tuple(pair for pair, one in zip(spelled, hit, strict=True) if one),
        misses=(*misses, *((*spelled[i], ()) for i in missed[TOLD_MISSES:])),
    )
