"""This machine: one process, or one process for each of several devices, all on the same run.

Layers are split by claims: each process takes the next few layers that nobody has. A process that dies is started
again; its heads are given back by whoever looks next.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from agent.errors import WorkerLost
from agent.pipeline.request import LabelJob
from agent.pipeline.workbench import Workbench, open_workbench
from agent.pipeline.worker import Event, HeadWorker
from agent.quiet import quiet_libraries
from agent.runs.database import open_database
from maps_engine.errors import Failure, HeadscribeError

RESTARTS = 3
LOOK_SECONDS = 0.5


def run_here(job: LabelJob, bench: Workbench, *, on_event: Callable[[Event], None], stop: Callable[[], bool]) -> None:
    """Work in this process with a workbench that is open already."""
    database = open_database(job.database)
    try:
        HeadWorker(job, bench, database, on_event, stop).run()
    finally:
        database.dispose()


def run_on_devices(
    job: LabelJob, devices: tuple[str, ...], *, on_event: Callable[[Event], None], stop: Callable[[], bool]
) -> None:
    """One process for each of `devices`. Raises what ended one of them, once all have stopped."""
    processes = _Processes([replace(job, device=device) for device in devices], on_event)
    try:
        while processes.running:
            if stop():
                processes.stopping.set()
            processes.look()
    finally:
        processes.stopping.set()
        while processes.running:
            processes.look()
    if processes.ended is not None:
        raise processes.ended


@dataclass(frozen=True)
class _Ended:
    """The last word of a process that could not go on."""

    reason: str


class _Processes:
    """Worker processes, each with a pipe of its own: one that is killed can spoil nobody else's."""

    def __init__(self, jobs: list[LabelJob], on_event: Callable[[Event], None]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._jobs, self._on_event = jobs, on_event
        self.stopping = self._context.Event()
        self.running: dict[Connection, tuple[int, BaseProcess]] = {}
        self.ended: Failure | None = None
        self._restarts = [0] * len(jobs)
        for number in range(len(jobs)):
            self._start(number)

    def look(self) -> None:
        """Pass on what the processes say; start those that died again."""
        for ready in wait(list(self.running), timeout=LOOK_SECONDS):
            assert isinstance(ready, Connection)
            try:
                event = ready.recv()
            except (EOFError, OSError):
                self._gone(ready)
                continue
            if isinstance(event, _Ended):
                self._end(Failure(event.reason))
            else:
                self._on_event(event)

    def _start(self, number: int) -> None:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(self._jobs[number], len(self._jobs), self.stopping, sender))
        process.start()
        sender.close()  # the child holds the only other end, so its death closes the pipe
        self.running[receiver] = (number, process)

    def _gone(self, pipe: Connection) -> None:
        number, process = self.running.pop(pipe)
        pipe.close()
        process.join()
        if not process.exitcode or self.stopping.is_set():
            return
        self._restarts[number] += 1
        if self._restarts[number] <= RESTARTS:
            self._start(number)
            return
        self._end(
            WorkerLost(
                f"the worker on {self._jobs[number].device} died {self._restarts[number]} times",
                got=f"exit code {process.exitcode}",
                next_step="The heads done are kept; run the same command again.",
            )
        )

    def _end(self, reason: Failure) -> None:
        self.ended = self.ended or reason
        self.stopping.set()


def _work(job: LabelJob, sharing: int, stopping: Any, pipe: Connection) -> None:
    """In the child: Ctrl-C reaches the parent alone, which says when to stop."""
    share_processors(sharing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet_libraries()
    try:
        run_here(job, open_workbench(job.request, device=job.device), on_event=pipe.send, stop=stopping.is_set)
    except HeadscribeError as error:
        pipe.send(_Ended(error.one_line()))


def share_processors(processes: int) -> None:
    """Leave the other processes of this run their part of the processors.

    Threads beyond the processors there are wait for each other by spinning: two devices took over twice as long.
    """
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
