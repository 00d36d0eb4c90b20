"""The same run on a real local Ray cluster, with a worker killed in the middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from agent.pipeline.label import label, prepare
from agent.pipeline.request import LabelRequest
from agent.pipeline.worker import HeadDone
from agent.runs.stored import stored_heads
from maps_engine.errors import HeadscribeError, UserMistake
from tests.support.agent.bulk_runs import tiny_request


def never() -> bool:
    return False


def test_ray_that_is_not_there_and_files_that_cannot_be_shared_are_said_clearly(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from agent.errors import ExtraMissing
    from agent.pipeline.backends import on_ray as ray_engine

    job = SimpleNamespace(database="sqlite:///x")
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"headscribe\[ray\]"):
        ray_engine._connected(job, None)  # type: ignore[arg-type]
    monkeypatch.undo()
    pytest.importorskip("ray")
    with pytest.raises(UserMistake, match="cannot be shared"):
        ray_engine._connected(job, "10.0.0.1:6379")  # type: ignore[arg-type]


@pytest.fixture
def cluster_room(monkeypatch):
    """Two workers on this machine, however few processors it has."""
    ray = pytest.importorskip("ray")
    from agent.pipeline.backends import on_ray as ray_engine

    monkeypatch.setattr(ray_engine, "CPUS_A_WORKER", 1)
    yield ray
    ray.shutdown()


def results(plan):
    """Everything but numbers' last digits: workers multiply with another number of threads."""
    kept = ("layer", "head", "status", "operation", "input_strings", "observed_pattern", "reason", "verdict")
    return [
        {k: getattr(head, k) for k in kept}
        | {"tokens": [(r.token_id, [t.token_id for t in r.targets]) for r in head.rows]}
        for head in stored_heads(plan.database, plan.job.run_id)
    ]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_is_replaced_and_the_table_is_the_undisturbed_one(tmp_path, cluster_room):
    request = tiny_request(tmp_path / "tiny", heads_at_once=4, device="cpu")
    plain = prepare(request, database=str(tmp_path / "plain.sqlite"))
    label(plain, on_event=lambda _: None, stop=never)
    plan = prepare(request, database=str(tmp_path / "ray.sqlite"), lease_seconds=20)
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            for pid in working_children():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    events = []
    outcome = label(plan, on_event=events.append, stop=never, engine="ray")
    killer.join()
    assert killed
    assert (outcome.state, outcome.counts.done) == ("finished", 8)
    assert results(plan) == results(plain)
    done = [(e.layer, e.head) for e in events if isinstance(e, HeadDone)]
    assert len(done) == len(set(done)) == 8


def working_children() -> list[int]:
    """Ray's worker processes that run our task now."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::work"):
                found.append(int(folder.name))
    return found


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_stop_reaches_the_workers(tmp_path, cluster_room):
    request = tiny_request(tmp_path / "tiny", heads_at_once=4, device="cpu")
    plan = prepare(request, database=str(tmp_path / "ray.sqlite"))
    outcome = label(plan, on_event=lambda _: None, stop=lambda: True, engine="ray")
    assert outcome.state in ("stopped", "finished")
    assert outcome.counts.claimed == 0
    assert label(plan, on_event=lambda _: None, stop=never).state == "finished"


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_cannot_work_says_why(tmp_path, cluster_room):
    request = tiny_request(tmp_path / "tiny")
    plan = prepare(request, database=str(tmp_path / "ray.sqlite"))
    (tmp_path / "tiny" / "config.json").rename(tmp_path / "tiny" / "gone.json")
    with pytest.raises(HeadscribeError) as caught:
        label(plan, on_event=lambda _: None, stop=never, engine="ray")
    assert "config" in str(caught.value)
    assert isinstance(plan.job.request, LabelRequest)
