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
HEADS = (
    "--layers",
    "23-24",
    "--heads",
    "0-4",
    "--heads-at-once",
    "5",
    "--describer",
    "lexical",
    "--source",
    "embedding",
)
COMMAND = [sys.executable, "-c", "from agent.label_cli import label_heads_main; label_heads_main()"]


def start(database, *more):
    command = [*COMMAND, *HEADS, "--database", str(database), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def table(database):
    engine = open_database(str(database))
    runs = list_runs(engine)
    assert len(runs) == 1
    kept = ("layer", "head", "status", "operation", "input_strings", "observed_pattern", "reason", "test", "category")
    rows = [{k: row[k] for k in kept} for row in export_rows(engine, runs[0].run_id)]
    engine.dispose()
    return runs[0], rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    database = tmp_path_factory.mktemp("plain") / "r.sqlite"
    process = start(database)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return table(database)[1]


def test_killed_at_random_moments_the_table_is_the_undisturbed_one(tmp_path, undisturbed):
    database, chance, kills = tmp_path / "r.sqlite", random.Random(6), 0
    for _ in range(40):
        process = start(database)
        try:
            process.communicate(timeout=chance.uniform(0.5, 30.0))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    run, rows = table(database)
    assert kills
    assert run.counts.done == 10
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
