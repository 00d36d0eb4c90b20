"""Ctrl-C during a long run: the first lets it finish what is in flight, the second ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or SIGTERM) asks to stop; the second ends the process, its workers and their requests with it.

    What was recorded stays; claims of a process that is gone are given back by whoever looks next.
    """
    asked = threading.Event()
    before = {number: signal.getsignal(number) for number in STOPS}
    arrivals, wakeup = socket.socketpair()
    watcher = threading.Thread(target=_watch, args=(arrivals, asked), daemon=True)
    watcher.start()
    wakeup.setblocking(False)
    wakeup_before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    for number in STOPS:
        signal.signal(number, _left_to_the_watcher)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        wakeup.close()  # the watcher reads the end of the stream and returns
        watcher.join()
        arrivals.close()


def _left_to_the_watcher(_number: int, _frame: FrameType | None) -> None:
    """In place of the default handlers, which would end the process or raise KeyboardInterrupt."""


def _watch(arrivals: socket.socket, asked: threading.Event) -> None:
    """Read signals as they arrive.

    Python's own handlers run between two steps of the main thread only, so two signals during one long product of
    matrices call them once. The stream gets one byte for each signal at the moment of its arrival.
    """
    while number := arrivals.recv(1):
        if number[0] not in STOPS:
            continue
        if asked.is_set():
            _end_at_once()
        asked.set()
        _tell("\nfinishing what is in flight; Ctrl-C again stops at once\n")


def _end_at_once() -> NoReturn:
    for child in multiprocessing.active_children():
        child.kill()
    if sys.stderr.isatty():
        _tell("\x1b[?25h\n")  # the progress bar hides the cursor
    os._exit(130)


def _tell(text: str) -> None:
    """To stderr, which may be gone: Ctrl-C in `label-heads 2>&1 | tee log` ends tee first."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
