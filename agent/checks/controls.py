"""Pairs that a claim must not owe its score to: the same sources with each other's targets.

A head that writes the same words whatever it reads hits these as often as the real pairs; a head that links a source to
its own target does not (docs/method.md, "Testing a description").
"""

from __future__ import annotations

from typing import Final

from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.significance import shuffled

ROUNDS: Final = 2  # of shuffling
SAME_TARGETS: Final = 0.25  # of the targets dealt: with no more left, all sources accept much the same ones
FEWEST: Final = 10  # mixed pairs, below which their score says too little
ABOVE_SHUFFLED: Final = 0.15  # tau: what makes a head an operation's must be owed to the right partner


def mixed_pairs(pairs: PairSet) -> PairSet:
    """Pairs shuffled; none for a claim whose sources share their targets, such as words of one field to each other."""
    mixed = shuffled(pairs, rounds=ROUNDS)
    dealt, left = (sum(map(len, one.targets)) for one in (pairs, mixed))
    return mixed if left > SAME_TARGETS * ROUNDS * dealt else PairSet((), (), pairs.k)
