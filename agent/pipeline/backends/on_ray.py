"""Ray: the same worker on every node of a cluster, one task a GPU (or a few processors), all on one run.

Tasks hold no results: what a worker did is in the database, so a worker that dies is simply started again and its heads
are claimed anew, at once on the same node and after the lease elsewhere. Every node must reach the database by
its URL and the checkpoint under the same name; a SQLite file is only taken for a cluster on this machine. With the
embedded store of known operations each node has its own; a Chroma server is shared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Engine

from agent.errors import ExtraMissing, WorkerLost
from agent.pipeline.backends.local import run_here
from agent.pipeline.request import LabelJob
from agent.pipeline.workbench import open_workbench
from agent.pipeline.worker import Event, HeadDone, Stage
from agent.quiet import quiet_libraries
from agent.runs.database import open_database
from agent.runs.state import STOPPING, HeadKey, done_heads, finish_run, run_state
from maps_engine.errors import Failure, HeadscribeError, UserMistake

CPUS_A_WORKER = 2
RETRIES = 3
LOOK_SECONDS = 1.0
_SAFE_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing reports home
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps a cluster started here on the loopback address
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


def run_on_ray(
    job: LabelJob,
    database: Engine,
    *,
    address: str | None,
    on_event: Callable[[Event], None],
    stop: Callable[[], bool],
) -> None:
    """Work with as many workers as the cluster has room for. Raises ExtraMissing, UserMistake, Failure.

    `address`: of a cluster ("auto": the one on this machine); None starts one here for the time of the call.
    """
    ray = _connected(job, address)
    try:
        workers = _start(ray, job)
        _watch(ray, workers, job, database, on_event, stop)
    finally:
        ray.shutdown()


def _connected(job: LabelJob, address: str | None) -> Any:
    if find_spec("ray") is None:
        raise ExtraMissing("Ray is not installed", next_step="Install the extra: pip install 'headscribe[ray]'.")
    for name, value in _SAFE_SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if address not in (None, "local", "auto") and job.database.startswith("sqlite"):
        raise UserMistake(
            "a SQLite file cannot be shared by the nodes of a cluster",
            got=address,
            next_step="Give --database postgresql://…",
        )
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address in (None, "local"):
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise Failure(
            "the Ray cluster cannot be used",
            got=f"{address or 'a cluster of our own'}: {' '.join(str(error).split())[:300]}",
            next_step="Check --address and RAY_AUTH_TOKEN.",
        ) from error
    return ray


def _start(ray: Any, job: LabelJob) -> list[Any]:
    """One task for every GPU, or for every `CPUS_A_WORKER` processors where there is none."""
    room: Mapping[str, float] = ray.cluster_resources()
    gpus, cpus = int(room.get("GPU", 0)), int(room.get("CPU", 1))
    wants_cpu = job.request.device.split(",")[0] == "cpu"
    if gpus and not wants_cpu:
        n, needs, device = gpus, {"num_gpus": 1, "num_cpus": 1}, "cuda"
    else:
        n, needs, device = max(1, cpus // CPUS_A_WORKER), {"num_cpus": min(cpus, CPUS_A_WORKER)}, "cpu"
    layers_left = max(1, len(job.layers))
    task = ray.remote(max_retries=RETRIES, **needs)(work)
    return [task.remote(replace(job, device=device)) for _ in range(min(n, layers_left))]


def work(job: LabelJob) -> str:
    """In a worker: label heads until none is left; "" or why it could not go on."""
    quiet_libraries()
    try:
        database = open_database(job.database)
        try:
            bench = open_workbench(job.request, device=job.device)
            run_here(job, bench, on_event=lambda _: None, stop=_StopAsked(database, job.run_id))
        finally:
            database.dispose()
    except HeadscribeError as error:
        return error.one_line()
    return ""


class _StopAsked:
    """Whether the one who started the workers wants them to stop, which the run's state says; asked once a second."""

    def __init__(self, database: Engine, run_id: int) -> None:
        self._database, self._run_id = database, run_id
        self._asked, self._next = False, 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._asked and now >= self._next:
            self._next = now + LOOK_SECONDS
            self._asked = run_state(self._database, self._run_id) == STOPPING
        return self._asked


def _watch(
    ray: Any,
    workers: list[Any],
    job: LabelJob,
    database: Engine,
    on_event: Callable[[Event], None],
    stop: Callable[[], bool],
) -> None:
    """Tell of heads as they appear in the database, until every worker has ended."""
    on_event(Stage(f"{len(workers)} workers on Ray"))
    known = set(done_heads(database, job.run_id))
    problem: Failure | None = None
    asked = False
    while workers:
        ended, workers = ray.wait(workers, timeout=LOOK_SECONDS)
        for one in ended:
            problem = problem or _last_word(ray, one)
        if (stop() or problem) and not asked:
            asked = True
            finish_run(database, job.run_id, state=STOPPING)
        _tell_new(database, job, known, on_event)
    if problem is not None:
        raise problem


def _last_word(ray: Any, worker: Any) -> Failure | None:
    try:
        reason = ray.get(worker)
    except ray.exceptions.RayError as error:
        return WorkerLost(
            f"a Ray worker died {RETRIES + 1} times",
            got=" ".join(str(error).split())[:300],
            next_step="The heads done are kept; run the same command again.",
        )
    return Failure(reason) if reason else None


def _tell_new(database: Engine, job: LabelJob, known: set[HeadKey], on_event: Callable[[Event], None]) -> None:
    wanted = set(job.keys)
    for key, status in done_heads(database, job.run_id).items():
        if key in wanted and key not in known:
            known.add(key)
            on_event(HeadDone(*key, status))
