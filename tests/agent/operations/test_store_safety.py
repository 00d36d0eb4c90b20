"""Several processes on one store of known operations, and processes killed at work: what was confirmed is there.

Count, get and query must agree: two writers on one folder without a lock give the right count and lose embeddings.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from agent.errors import StoreUnusable
from agent.operations.operation import KnownOperation
from agent.operations.store import KnownOperationStore
from tests.support.agent.known_worker import EMBEDDERS, RELATIONS, opened, operation

pytestmark = pytest.mark.slow
CATALOGUE_NAMES = {relation.name for relation in RELATIONS}


def worker(place: object, who: str, n: int, batch: int, *mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.agent.known_worker", str(place), who, str(n), str(batch), *mode],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    )


def finished(*workers: subprocess.Popen[str]) -> set[str]:
    """What the workers confirmed; all of them must end well."""
    told = {name for one in workers for name in one.communicate(timeout=280)[0].split()}
    assert [one.returncode for one in workers] == [0] * len(workers)
    return told


def check_all_there(store: KnownOperationStore, names: set[str], which: int = 0) -> None:
    """Count, listing, embeddings and query agree on `names`."""
    listed = {one.name: one for one in store.list()}
    assert names | CATALOGUE_NAMES <= set(listed)
    assert all(listed[name] == operation(name) for name in names)
    collection = store._added
    stored = collection.get(include=["embeddings"])
    assert collection.count() == len(stored["ids"]) == len(stored["embeddings"])
    vectors = dict(zip(stored["ids"], stored["embeddings"], strict=True))
    wanted = sorted(names)
    assert all(np.isfinite(vectors[name]).all() and np.linalg.norm(vectors[name]) > 0.9 for name in wanted)
    right = EMBEDDERS[which].embed_many([operation(name).examples for name in wanted])
    for start in range(0, len(wanted), 250):
        answer = collection.query(query_embeddings=right[start : start + 250], n_results=5, include=["distances"])
        for name, found in zip(wanted[start : start + 250], answer["ids"], strict=True):
            assert name in found


def test_two_processes_write_one_folder_without_loss(tmp_path):
    names = finished(*(worker(tmp_path / "c", who, 8, 1) for who in ("first", "second")))
    assert len(names) == 16
    with opened(str(tmp_path / "c")) as store:
        check_all_there(store, names)


def test_two_processes_write_many_records_into_one_folder(tmp_path):
    names = finished(*(worker(tmp_path / "c", who, 3000, 600) for who in ("first", "second")))
    assert len(names) == 6000
    with opened(str(tmp_path / "c")) as store:
        check_all_there(store, names)


@pytest.mark.parametrize("mode", [(), ("rebuild",), ("move",)], ids=["add", "rebuild", "other embedder"])
def test_processes_killed_in_a_loop_lose_nothing_confirmed(tmp_path, mode):
    place, chance = str(tmp_path / "c"), random.Random(5)
    confirmed: set[str] = set()
    for turn in range(4):
        one = worker(place, f"killed{turn}", 10_000, 3, *mode)
        assert one.stdout is not None
        if turn:  # the first is killed wherever it is, building the catalogue included
            confirmed |= {one.stdout.readline().strip()}
        time.sleep(chance.uniform(0.05, 1.5) if turn else 4.0)
        one.send_signal(signal.SIGKILL)
        confirmed |= set(one.communicate(timeout=30)[0].split())
        with opened(place, 0, change_embedder=True) as store:
            check_all_there(store, confirmed)
    assert len(confirmed) >= 9


class Server(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    """A real Chroma server on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(tmp_path / "server")]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/api/v2/heartbeat").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield Server(url, process)
    finally:
        process.kill()
        process.wait(timeout=20)


def test_two_writers_through_a_server_agree(server):
    with opened(server.url) as one, opened(server.url) as two:
        one.add(operation("one"))
        two.add(operation("two"))
        assert one.list() == two.list()
        for store in (one, two):
            check_all_there(store, {"one", "two"})
        one.remove("two")
        assert "two" not in {found.name for found in two.list()}


def test_two_processes_write_thousands_through_a_server(server):
    names = finished(*(worker(server.url, who, 3000, 20) for who in ("first", "second")))
    assert len(names) == 6000
    with opened(server.url) as store:
        check_all_there(store, names)


def test_adding_while_another_rebuilds_through_a_server(server):
    names = finished(worker(server.url, "adds", 300, 5), worker(server.url, "rebuilds", 30, 5, "rebuild"))
    assert len(names) == 330
    with opened(server.url) as store:
        check_all_there(store, names)


def test_a_server_that_goes_away_is_one_line_and_keeps_what_it_confirmed(server):
    with opened(server.url) as store:
        store.add(operation("here"))
        server.process.kill()
        server.process.wait(timeout=20)
        with pytest.raises(StoreUnusable, match="does not work"):
            store.list()


def test_a_folder_removed_while_it_is_open_is_one_line(tmp_path):
    place = tmp_path / "c"
    with opened(str(place)) as store:
        shutil.rmtree(place)
        with pytest.raises(StoreUnusable, match="moved or deleted while it was open"):
            store.add(KnownOperation("x", "made", (("a", ("b",)),)))
    with opened(str(place)) as store:
        assert {one.name for one in store.list()} == CATALOGUE_NAMES
