"""Describe jobs: one worker thread, a bounded queue, progress to poll. A job never takes the app down with it."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Engine

from agent.results import HeadReport
from agent.runs.database import reading
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.state import finish_if_done
from agent.runs.store import open_run, store_result
from eval.errors import BadStudy, NotFound
from eval.web.browser.browse_data import find_model
from eval.web.settings import Describe
from maps_engine.errors import HeadscribeError
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings

Keep = Callable[[str, HeadReport], None]  # (address part of the model, result)
State = Literal["queued", "running", "done", "failed"]
RUN_IDENTITY = "run_identity"  # in a report's provenance on its way from the describer to the records
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
                report = self.describe(job.model, job.layer, job.head)
                if self.keep is not None:
                    self.keep(job.slug, report)
                self._set(job.id, state="done", result=report.to_json())
            except HeadscribeError as error:
                self._set(job.id, state="failed", error=error.one_line())
            except Exception as error:  # noqa: BLE001 - a broken describer must not end the queue
                _log.exception("describing layer %s head %s failed", job.layer, job.head)
                self._set(job.id, state="failed", error=f"internal error ({type(error).__name__})")


def keep_in_records(engine: Engine) -> Keep:
    """Store results in the run of their identity, as a bulk run would; the model is in the database already."""

    def keep(slug: str, report: HeadReport) -> None:
        mapping, facts = report.mapping, report.provenance
        with reading(engine) as session:
            model = find_model(session, slug)
            if model.fingerprint != mapping.fingerprint:
                raise BadStudy(
                    "the model that was opened is not the one in the database",
                    got=mapping.fingerprint[:20],
                    expected=model.fingerprint[:20],
                )
            from agent.checks.categories import category_of_report  # torch: only with a result of it
            from maps_engine.model import ModelShape

            names = ("n_layers", "n_heads", "n_value_heads", "d_model", "d_head", "vocab_size")
            shape = ModelShape(**{name: getattr(model, name) for name in names})
            card = ModelCard(model.name, model.fingerprint, shape, model.location)
        identity = _identity(report)
        report = replace(report, provenance={name: facts[name] for name in facts if name != RUN_IDENTITY})
        category = category_of_report(report, load_relations())
        run = open_run(engine, card=card, identity=identity, heads=[(mapping.layer, mapping.head)])
        store_result(engine, run.run_id, report, category=category)
        finish_if_done(engine, run.run_id)  # a new head set a finished run back to running

    return keep


def _identity(report: HeadReport) -> RunIdentity:
    """The one that the describer states, so that a job joins the run of `label-heads`; else what the report tells."""
    mapping, facts = report.mapping, report.provenance
    stated = facts.get(RUN_IDENTITY)
    if stated:
        return RunIdentity(**(stated | {"engine": EngineSettings(**stated["engine"])}))
    settings = dict(facts.get("describer_settings") or report.description.settings)
    prompt = str(settings.get("prompt_hash") or facts.get("prompt_hash") or "")
    return RunIdentity(mapping.fingerprint, mapping.settings, prompt, report.description.describer, settings)
