"""Numbers that several rooms read relation scores with; each is written here alone."""

from __future__ import annotations

from typing import Final

TAU: Final = 0.15  # the paper's tau: from this phi on, a head is said to implement an operation
MIN_PAIRS: Final = 30  # one-token pairs that an operation needs before its scores count
DEFAULT_K: Final = 10  # length of the list that a target must be in, for pairs that come without a k of their own
