"""Tokens that language models took, counted request by request wherever they are asked.

LangChain's `UsageMetadataCallbackHandler` leaves out replies without a reported usage or model name, and requests that
failed after they may have cost something; those are estimated here and marked. Its `get_usage_metadata_callback` adds
an entry to a global list at each use that every later call of a model walks through: 100 uses, 100 entries more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Usage:
    """Tokens read and written by language models; zero where none was asked."""

    read: int = 0
    written: int = 0
    estimated: int = 0  # requests among them whose tokens were not reported: those are guessed from lengths

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.read + other.read, self.written + other.written, self.estimated + other.estimated)

    @property
    def tokens(self) -> int:
        """Read and written together."""
        return self.read + self.written

    def cost(self, price: tuple[float, float] | None) -> float | None:
        """In the unit of `price` (for a million tokens read, and written); None where no price is known."""
        return None if price is None else (self.read * price[0] + self.written * price[1]) / 1e6


NO_USAGE = Usage()


class _Meter:
    def __init__(self) -> None:
        self.usage, self._lock = NO_USAGE, threading.Lock()

    def add(self, usage: Usage) -> None:
        with self._lock:
            self.usage += usage


_meter: ContextVar[_Meter | None] = ContextVar("meter", default=None)


def count(usage: Usage) -> None:
    """Add one request's tokens to the meter that runs, if one does."""
    meter = _meter.get()
    if meter is not None:
        meter.add(usage)


def metered(work: Callable[[], Result]) -> tuple[Result, Usage]:
    """The result of `work` and the tokens of every request in it, made in this thread or in a copy of its context."""
    meter = _Meter()
    token = _meter.set(meter)
    try:
        return work(), meter.usage
    finally:
        _meter.reset(token)
