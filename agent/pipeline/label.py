"""All heads of a model, or a choice of them, in one resumable run of the database.

    plan = prepare(LabelRequest(model="…"), database="…")     # finds or creates the run of this identity
    outcome = label(plan, on_event=…, stop=…)                 # works until done or told to stop

The same request continues the same run; anything that would change a result makes another identity and so another
run, never a mixture (docs/design.md, "Identity and failure").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine

from agent.pipeline.backends.local import run_here, run_on_devices
from agent.pipeline.request import (
    BackendName,
    LabelJob,
    LabelRequest,
    check_backend,
    check_request,
    devices_of,
    parse_indices,
)
from agent.pipeline.workbench import Workbench, open_workbench
from agent.pipeline.worker import Event, HeadDone
from agent.runs.claims import LEASE_SECONDS, retry_heads
from agent.runs.database import database_url, open_database
from agent.runs.identity import ModelCard
from agent.runs.state import RunCounts, counts, finish_if_done, finish_run
from agent.runs.store import open_run


@dataclass(frozen=True)
class Plan:
    """A run that is ready to be worked on."""

    job: LabelJob
    bench: Workbench
    database: Engine
    created: bool
    before: RunCounts  # of the heads asked for


@dataclass(frozen=True)
class Outcome:
    """What is done when the work ends: all heads asked for, or as far as it came."""

    run_id: int
    state: Literal["finished", "stopped"]
    counts: RunCounts  # of the heads asked for
    labelled: int  # by this call
    seconds: float


def prepare(
    request: LabelRequest,
    *,
    database: str | None = None,
    retry_failed: bool = False,
    lease_seconds: float = LEASE_SECONDS,
    bench: Workbench | None = None,
) -> Plan:
    """Open model, describer and database, and find or create the run; `bench` where they are open already.

    Raises HeadscribeError.
    """
    check_request(request)
    address = database_url(database).render_as_string(hide_password=False)
    first = devices_of(request.device)[0]
    bench = bench or open_workbench(request, device=first)
    shape = bench.maps.shape
    layers = parse_indices(request.layers, shape.n_layers, "layer")
    heads = parse_indices(request.heads, shape.n_heads, "head")
    db = open_database(database)
    card = ModelCard.of(bench.maps.checkpoint)
    opened = open_run(db, card=card, identity=bench.identity, heads=[(i, j) for i in layers for j in heads])
    if retry_failed:
        retry_heads(db, opened.run_id, layers=layers, heads=heads)
    job = LabelJob(request, address, opened.run_id, layers, heads, first, lease_seconds)
    before = counts(db, opened.run_id, layers=layers, heads=heads)
    return Plan(job, bench, db, opened.created, before)


def label(
    plan: Plan,
    *,
    on_event: Callable[[Event], None],
    stop: Callable[[], bool],
    backend: BackendName = "local",
    address: str | None = None,
) -> Outcome:
    """Work on the run until all heads asked for are done, or until `stop()`; the run can be continued either way."""
    check_backend(backend)
    job, started = plan.job, time.monotonic()
    labelled = 0

    def counting(event: Event) -> None:
        nonlocal labelled
        labelled += isinstance(event, HeadDone)
        on_event(event)

    if plan.before.done < plan.before.total:
        finish_run(plan.database, job.run_id, state="running")
        try:
            _work(plan, counting, stop, backend, address)
        finally:
            if not finish_if_done(plan.database, job.run_id):
                finish_run(plan.database, job.run_id, state="stopped")
    else:
        finish_if_done(plan.database, job.run_id)  # a process that died may have left it running
    now = counts(plan.database, job.run_id, layers=job.layers, heads=job.heads)
    return Outcome(
        run_id=job.run_id,
        state="finished" if now.done == now.total else "stopped",
        counts=now,
        labelled=labelled,
        seconds=time.monotonic() - started,
    )


def _work(
    plan: Plan, on_event: Callable[[Event], None], stop: Callable[[], bool], backend: BackendName, address: str | None
) -> None:
    devices = devices_of(plan.job.request.device)
    if backend == "ray":
        from agent.pipeline.backends.on_ray import run_on_ray

        run_on_ray(plan.job, plan.database, address=address, on_event=on_event, stop=stop)
    elif len(devices) > 1:
        run_on_devices(plan.job, devices, on_event=on_event, stop=stop)
    else:
        run_here(plan.job, plan.bench, on_event=on_event, stop=stop)
