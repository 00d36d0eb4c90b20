"""Ctrl-C during a long run: the first lets it finish what is in flight, the second ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or SIGTERM) asks to stop; the second ends the process, its workers and their requests with it.

    What was recorded stays; claims of a process that is gone are given back by whoever looks next.
    """
    asked = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            _end_at_once()
        asked.set()
        sys.stderr.write("\nfinishing what is in flight; Ctrl-C again stops at once\n")

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once() -> NoReturn:
    for child in multiprocessing.active_children():
        child.kill()
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # the progress bar hides the cursor
    sys.stderr.flush()
    os._exit(130)
