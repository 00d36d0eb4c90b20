"""Pairs that a claim must not owe its score to: the same sources with each other's targets, or other sources.

A head that writes the same words whatever it reads hits these as often as the real pairs; a head that links a source to
its own target does not. Where all sources share their targets, as in a claim of classes, they cannot be mixed: then the
same targets of words outside the class are the control (docs/method.md, "Testing a description").
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
    """Pairs shuffled, or the other sources where they are named; none for any words to the same targets."""
    if pairs.others:
        return _of_others(pairs)
    mixed = shuffled(pairs, rounds=ROUNDS)
    dealt, left = (sum(map(len, one.targets)) for one in (pairs, mixed))
    return mixed if left > SAME_TARGETS * ROUNDS * dealt else PairSet((), (), pairs.k)


def _of_others(pairs: PairSet) -> PairSet:
    """The targets of all sources, of each of the other sources."""
    targets = tuple(sorted({t for accepted in pairs.targets for t in accepted}))
    each = tuple(tuple(t for t in targets if t != source) for source in pairs.others)
    return PairSet(pairs.others, each, pairs.k)
