"""On the built-in model: killed again and again, two processes on one run, several devices."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from agent.database import open_database
from agent.run_tables import export_rows, list_runs

pytestmark = [pytest.mark.slow, pytest.mark.model]
HEADS = ("--layers", "20-25", "--heads", "0-1", "--heads-at-once", "2", "--describer", "lexical")
SETTINGS = (*HEADS, "--source", "embedding")
KILLS = 20
TOOK: list[float] = []  # seconds of the undisturbed run
COMMAND = [sys.executable, "-c", "from agent.label_cli import label_heads_main; label_heads_main()"]


def start(database, *more):
    command = [*COMMAND, *SETTINGS, "--database", str(database), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def table(database):
    engine = open_database(str(database))
    runs = list_runs(engine)
    if not runs:
        return None, []
    assert len(runs) == 1
    kept = ("layer", "head", "status", "operation", "input_strings", "observed_pattern", "reason", "test", "category")
    rows = [{k: row[k] for k in kept} for row in export_rows(engine, runs[0].run_id)]
    engine.dispose()
    return runs[0], rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    database = tmp_path_factory.mktemp("plain") / "r.sqlite"
    started = time.monotonic()
    process = start(database)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    TOOK.append(time.monotonic() - started)
    return table(database)[1]


def test_killed_at_random_moments_the_table_is_the_undisturbed_one(tmp_path, undisturbed):
    database, chance, seen = tmp_path / "r.sqlite", random.Random(6), []
    for _ in range(KILLS):
        process = start(database)
        time.sleep(chance.uniform(0.05, 0.95) * TOOK[0])
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(len(table(database)[1]) if database.exists() else 0)
    process = start(database)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    run, rows = table(database)
    assert seen == sorted(seen)  # nothing that was confirmed is ever lost
    assert len(set(seen)) > 1
    assert run.counts.done == len(rows) == 12
    assert rows == undisturbed


def test_two_processes_share_one_run(tmp_path, undisturbed):
    database = tmp_path / "r.sqlite"
    processes = [start(database), start(database)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert table(database)[1] == undisturbed


def test_several_devices_share_one_run(tmp_path, undisturbed):
    process = start(tmp_path / "r.sqlite", "--device", "cpu,cpu")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert table(tmp_path / "r.sqlite")[1] == undisturbed


def test_control_c_finishes_what_is_in_flight(tmp_path, undisturbed):
    process = start(tmp_path / "r.sqlite")
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (0, 130)
    if process.returncode == 130:
        assert "the same command continues run 1" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_a_second_control_c_ends_at_once_and_what_is_recorded_stays(tmp_path, undisturbed, devices):
    process = start(tmp_path / "r.sqlite", "--device", devices)
    assert "heads" in process.stderr.readline()  # the run is made; the model's first layers come now
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 5
    run, rows = table(tmp_path / "r.sqlite")
    assert run.counts.total == 12
    assert rows == undisturbed[: len(rows)]
