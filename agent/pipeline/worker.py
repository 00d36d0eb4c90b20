"""One process at work on a run: claim a batch of heads, send it through the pipeline, record it; until none is left.

A batch is a few layers' worth of heads. The pairs that their descriptions predict are scored in one pass over the
model (`agent.checks.pair_scorer`), and only pairs that no earlier batch had.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from agent.checks.categories import category_of_report
from agent.describers.protocol import RankingDescriber
from agent.errors import DatabaseUnusable
from agent.llm.token_usage import NO_USAGE, Usage
from agent.pipeline.flow import Conditions, FailureStreak, describe_heads
from agent.pipeline.request import LabelJob
from agent.pipeline.workbench import Workbench
from agent.results.reports import HeadReport
from agent.runs.claims import claim_heads, release_claims, renew_claims
from agent.runs.state import HeadKey, counts
from agent.runs.store import store_results
from agent.runs.workers import keep_reply, kept_replies, release_dead, worker_name

WAIT_SECONDS = 1.0  # between looks at heads that other processes hold


@dataclass(frozen=True)
class HeadDone:
    """A head that was recorded, and what its description cost in tokens."""

    layer: int
    head: int
    status: str
    usage: Usage = NO_USAGE


@dataclass(frozen=True)
class Stage:
    """What a worker is doing now, in words."""

    text: str


Event = HeadDone | Stage


@dataclass
class HeadWorker:
    """`run()` works until the job's heads are done or `stop()` says so; what is in flight is finished first."""

    job: LabelJob
    bench: Workbench
    database: Engine
    on_event: Callable[[Event], None]
    stop: Callable[[], bool]

    def __post_init__(self) -> None:
        self.name = worker_name()
        self._streak = FailureStreak()

    def run(self) -> None:
        """Claims until nothing is left, heads of other processes that die included. Raises HeadscribeError."""
        release_dead(self.database, self.job.run_id)
        with self._heartbeat():
            while not self.stop():
                claimed = self._claim()
                if claimed:
                    self._label(claimed)
                elif not self._others_at_work():
                    return

    def _claim(self) -> list[HeadKey]:
        job, row = self.job, len(self.job.heads)
        return claim_heads(
            self.database,
            job.run_id,
            worker=self.name,
            limit=max(row, job.request.heads_at_once // row * row),  # whole layers
            layers=job.layers,
            heads=job.heads,
            lease_seconds=job.lease_seconds,
        )

    def _others_at_work(self) -> bool:
        """Wait a moment where others hold heads; False when all heads of the job are done."""
        job = self.job
        now = counts(self.database, job.run_id, layers=job.layers, heads=job.heads)
        if now.done == now.total:
            return False
        self.on_event(Stage("waiting for other processes"))
        time.sleep(WAIT_SECONDS)
        release_dead(self.database, job.run_id)
        return True

    def _label(self, claimed: Sequence[HeadKey]) -> None:
        conditions = Conditions(
            workers=self.job.request.workers,
            tell=lambda text: self.on_event(Stage(text)),
            stop=self.stop,
            kept=kept_replies(self.database, self.job.run_id, claimed),
            keep=self._keep,
            streak=self._streak,
        )
        described = describe_heads(self.bench, claimed, conditions)
        self._store(described.reports)
        if described.ended is not None:
            raise described.ended

    def _keep(self, report: HeadReport) -> None:
        """Keep what cost a language model's reply before its test, so that a killed process loses little.

        Of a describer that ranks, the other descriptions are tested too, and they would be lost.
        """
        if not isinstance(self.bench.describer, RankingDescriber):
            keep_reply(self.database, self.job.run_id, report, worker=self.name)

    def _store(self, reports: Sequence[HeadReport]) -> None:
        results = [(report, category_of_report(report, self.bench.relations)) for report in reports]
        stored = store_results(self.database, self.job.run_id, results, worker=self.name)
        for report, kept in zip(reports, stored, strict=True):
            if kept:
                at, said = report.mapping, report.description
                self.on_event(HeadDone(at.layer, at.head, said.status, report.trace.usage))

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Keep the claims alive while working; give back what is not done at the end, whatever ended it."""
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over,), daemon=True, name="claims")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._give_back()

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self.job.lease_seconds / 4):
            try:
                renew_claims(self.database, self.job.run_id, worker=self.name, lease_seconds=self.job.lease_seconds)
            except DatabaseUnusable:
                continue  # the next result will say so; until then the lease lasts

    def _give_back(self) -> None:
        try:
            release_claims(self.database, self.job.run_id, worker=self.name)
        except DatabaseUnusable:
            return  # already reported by what failed before; whoever continues sees that this process is gone
