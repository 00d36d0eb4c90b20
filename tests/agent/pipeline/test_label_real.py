"""On the built-in model: killed again and again, two processes on one run, several devices."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from agent.runs.database import open_database
from agent.runs.stored import stored_heads
from agent.runs.tables import list_runs
from tests.support.agent.label_process import forked

pytestmark = [pytest.mark.slow, pytest.mark.model]
HEADS = ("--layers", "20-25", "--heads", "0-1", "--heads-at-once", "2", "--describer", "lexical")
SETTINGS = (*HEADS, "--source", "embedding")
KILLS = 20
COMMAND = [sys.executable, "-c", "from agent.commands.label_heads import label_heads_main; label_heads_main()"]


class Undisturbed(NamedTuple):
    """A run's rows, and the seconds until a run that finds its pairs scored has recorded its first."""

    rows: list[dict[str, Any]]
    to_first_head: float


def start(database, *more):
    command = [*COMMAND, *SETTINGS, "--database", str(database), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def table(database):
    engine = open_database(str(database))
    runs = list_runs(engine)
    if not runs:
        return None, []
    assert len(runs) == 1
    # everything that is kept of a head, to the last bit
    rows = [one.to_json() for one in stored_heads(engine, runs[0].run_id)]
    engine.dispose()
    return runs[0], rows


def until_more_than(heads, database, process):
    """Wait until more heads are recorded, or the process has ended; returns the seconds waited."""
    started = time.monotonic()
    while process.is_alive() and recorded(database) <= heads:
        time.sleep(0.02)
    return time.monotonic() - started


def recorded(database):
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM descriptions").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0


@pytest.fixture(scope="session")
def undisturbed(made_once):
    """The table of a run that nobody disturbs."""

    def make(folder):
        process = forked([*SETTINGS, "--database", str(folder / "r.sqlite")], folder / "said.txt")
        process.join(600)
        assert process.exitcode == 0, (folder / "said.txt").read_text()
        # The first run is slower: it keeps hits of pairs and vectors of fixed words for those after it.
        again = forked([*SETTINGS, "--database", str(folder / "again.sqlite")], folder / "said.txt")
        (folder / "seconds").write_text(str(until_more_than(0, folder / "again.sqlite", again)))
        again.kill()
        again.join()

    folder = made_once("undisturbed", make)
    return Undisturbed(table(folder / "r.sqlite")[1], float((folder / "seconds").read_text()))


def test_killed_at_random_moments_the_table_is_the_undisturbed_one(tmp_path, undisturbed):
    database, output, chance, seen = tmp_path / "r.sqlite", tmp_path / "said.txt", random.Random(6), [0]
    arguments, to_first_head = [*SETTINGS, "--database", str(database)], undisturbed.to_first_head
    for number in range(KILLS):
        process = forked(arguments, output)
        if number % 2:  # amid the heads: some time after the first that this process records
            to_first_head = min(to_first_head, until_more_than(seen[-1], database, process))
            process.join(chance.uniform(0, 0.1) * to_first_head)
        else:  # amid the start
            process.join(chance.uniform(0.02, 1) * to_first_head)
        process.kill()
        process.join()
        seen.append(len(table(database)[1]) if database.exists() else 0)
    process = forked(arguments, output)
    process.join(600)
    assert process.exitcode == 0, output.read_text()
    run, rows = table(database)
    assert seen == sorted(seen)  # nothing that was confirmed is ever lost
    assert len(set(seen[1:])) > 3
    assert run.counts.done == len(rows) == 12
    assert rows == undisturbed.rows


def test_two_processes_share_one_run(tmp_path, undisturbed):
    database = tmp_path / "r.sqlite"
    processes = [start(database), start(database)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert table(database)[1] == undisturbed.rows


def test_several_devices_share_one_run(tmp_path, undisturbed):
    process = start(tmp_path / "r.sqlite", "--device", "cpu,cpu")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert table(tmp_path / "r.sqlite")[1] == undisturbed.rows


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
    assert rows == undisturbed.rows[: len(rows)]
