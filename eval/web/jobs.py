"""Describe jobs: one worker thread, a bounded queue, progress to poll. A job never takes the app down with it."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Engine

from agent.runs.database import reading
from eval.errors import BadStudy, NotFound
from eval.web.browser.browse_data import find_model
from eval.web.settings import Describe
from maps_engine.errors import HeadscribeError

if TYPE_CHECKING:
    from agent.pipeline.one_head import DescribedHead

Keep = Callable[[str, "DescribedHead"], None]  # (address part of the model, result)
State = Literal["queued", "running", "done", "failed"]
MOST_QUEUED, MOST_KEPT = 100, 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One head to describe."""

    id: str
    model: str
    slug: str
    layer: int
    head: int
    state: State = "queued"
    ahead: int = 0  # jobs before this one when it was queued
    error: str = ""
    result: dict[str, Any] | None = None


class Jobs:
    """The queue; its thread starts with the first job and ends with the process."""

    def __init__(self, describe: Describe, keep: Keep | None = None) -> None:
        self.describe, self.keep = describe, keep
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: queue.Queue[str] = queue.Queue(MOST_QUEUED)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, model: str, slug: str, layer: int, head: int) -> Job:
        """Queue a head; the same head twice in the queue is one job. Raises BadStudy when the queue is full."""
        with self._lock:
            for job in self._jobs.values():
                same = (job.slug, job.layer, job.head) == (slug, layer, head)
                if same and job.state in ("queued", "running"):
                    return job
            job = Job(secrets.token_urlsafe(9), model, slug, layer, head, ahead=self._queue.qsize())
            try:
                self._queue.put_nowait(job.id)
            except queue.Full:
                raise BadStudy("too many heads are waiting to be described", got=MOST_QUEUED) from None
            self._jobs[job.id] = job
            self._forget_old()
            self._start()
            return job

    def _forget_old(self) -> None:
        for job_id in list(self._jobs):
            if len(self._jobs) <= MOST_KEPT:
                return
            if self._jobs[job_id].state in ("done", "failed"):
                del self._jobs[job_id]

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="describe-jobs", daemon=True)
            self._thread.start()

    def get(self, job_id: str) -> Job:
        """Raises NotFound for an unknown job."""
        with self._lock:
            if job_id not in self._jobs:
                raise NotFound("no such job", got=job_id[:40])
            return self._jobs[job_id]

    def latest(self, slug: str, layer: int, head: int) -> Job | None:
        """The newest job of a head."""
        with self._lock:
            for job in reversed(self._jobs.values()):
                if (job.slug, job.layer, job.head) == (slug, layer, head):
                    return job
        return None

    def _set(self, job_id: str, **changes: Any) -> Job:
        with self._lock:
            self._jobs[job_id] = replace(self._jobs[job_id], **changes)
            return self._jobs[job_id]

    def _work(self) -> None:
        while True:
            job = self._set(self._queue.get(), state="running")
            try:
                described = self.describe(job.model, job.layer, job.head)
                if self.keep is not None:
                    self.keep(job.slug, described)
                self._set(job.id, state="done", result=described.report.to_json())
            except HeadscribeError as error:
                self._set(job.id, state="failed", error=error.one_line())
            except Exception as error:  # noqa: BLE001 - a broken describer must not end the queue
                _log.exception("describing layer %s head %s failed", job.layer, job.head)
                self._set(job.id, state="failed", error=f"internal error ({type(error).__name__})")


def keep_in_records(engine: Engine) -> Keep:
    """Store results in the run of their identity, as `label-heads` does; the model is in the database already."""

    def keep(slug: str, described: DescribedHead) -> None:
        from agent.pipeline.one_head import record_head  # torch: only with a result of it

        opened = described.card.fingerprint
        with reading(engine) as session:
            expected = find_model(session, slug).fingerprint
        if expected != opened:
            raise BadStudy(
                "the model that was opened is not the one in the database", got=opened[:20], expected=expected[:20]
            )
        record_head(engine, described)

    return keep
