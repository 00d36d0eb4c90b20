"""One process at work on a run: claim heads, map them, describe them, test them together, record them.

A batch is a few layers' worth of heads. The pairs that their descriptions predict are scored in one pass over the
model (`agent.checks.pair_cache`), and only pairs that no earlier batch had.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Engine

from agent.checks.categories import category_of_report
from agent.checks.new_pairs import PlannedTest, finish_test
from agent.checks.pair_cache import PairCachingEngine
from agent.errors import BudgetSpent, DatabaseUnusable
from agent.llm.token_usage import NO_USAGE, Usage
from agent.pipeline.batches import ManyDescriber
from agent.pipeline.graph import Finding
from agent.pipeline.job import LabelJob
from agent.pipeline.session import HeadSession
from agent.results import HeadReport
from agent.runs.claims import claim_heads, release_claims, renew_claims
from agent.runs.state import HeadKey, counts
from agent.runs.store import store_results
from agent.runs.workers import KeptReply, keep_reply, kept_replies, release_dead, worker_name
from maps_engine.errors import Failure
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import HeadMapping

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
    session: HeadSession
    database: Engine
    on_event: Callable[[Event], None]
    stop: Callable[[], bool]

    def __post_init__(self) -> None:
        self.name = worker_name()
        self._many = ManyDescriber(self.session, self.job.request.workers, self.stop)

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
        kept = kept_replies(self.database, self.job.run_id, claimed)
        mappings = self._map(claimed)
        described = [self._report(m, kept[_key(m)]) for m in mappings if _key(m) in kept]
        self.on_event(Stage("looking for known operations alike"))
        found = self._many.retrieve([m for m in mappings if _key(m) not in kept])
        self.on_event(Stage(f"describing with {self.session.describer.name}"))
        ended: Failure | None = None
        try:
            for report in self._many.describe(found):
                if self._many.asks_a_model and report.description.status != "failed":
                    keep_reply(self.database, self.job.run_id, report, worker=self.name)
                described.append(report)
        except BudgetSpent as error:  # what came is tested and recorded before the run stops
            ended = error
        self._test_and_store(described)
        if ended is not None:
            raise ended

    def _report(self, mapping: HeadMapping, kept: KeptReply) -> HeadReport:
        return self.session.untested(Finding(mapping, kept.retrieved, kept.description, kept.trace), kept.trace.usage)

    def _map(self, claimed: Sequence[HeadKey]) -> list[HeadMapping]:
        by_layer: dict[int, list[int]] = defaultdict(list)
        for layer, head in claimed:
            by_layer[layer].append(head)
        mappings: list[HeadMapping] = []
        for layer, heads in by_layer.items():
            if self.stop():
                break
            self.on_event(Stage(f"reading layer {layer}"))
            mappings += self.session.engine.map_heads([layer], heads=heads)
        return mappings

    def _test_and_store(self, described: Sequence[HeadReport]) -> None:
        engine = self.session.engine
        self.on_event(Stage("testing the descriptions on all heads"))
        plans = [self.session.plan(report) for report in described]
        if isinstance(engine, PairCachingEngine):
            engine.prepare(_by_source(plans))
        self._store([replace(one, test=finish_test(p, engine)) for one, p in zip(described, plans, strict=True)])

    def _store(self, reports: Sequence[HeadReport]) -> None:
        results = [(report, category_of_report(report, self.session.relations)) for report in reports]
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


def _key(mapping: HeadMapping) -> HeadKey:
    return mapping.layer, mapping.head


def _by_source(plans: Sequence[PlannedTest]) -> dict[str, list[PairSet]]:
    found: dict[str, list[PairSet]] = defaultdict(list)
    for plan in plans:
        if plan.pairs is not None:
            found[plan.mapping.source].append(plan.pairs)
    return found
