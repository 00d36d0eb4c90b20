"""Shared by all tests: nothing is read from or written to the user's own folders, and nothing reaches the net."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# Speed is shown by benchmarks: a machine that is busy for a moment fails no test.
settings.register_profile("headscribe", deadline=None)
settings.load_profile("headscribe")

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


LONGEST = ("test_label_real.py", "test_agent_server.py", "test_tour.py", "test_store_safety.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Minutes-long tests first, or one of them runs on alone when all others are done."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """`made_once(name, make)`: a folder that `make` has filled once for all of pytest's workers; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place = shared / name
        with FileLock(str(place) + ".lock"):
            if not (place / "made").exists():
                place.mkdir()
                make(place)
                (place / "made").touch()
        return place

    return folder


@pytest.fixture(scope="session", autouse=True)
def own_data(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same for fixtures that live longer than a test, and for the server that processes are forked from."""
    os.environ["HEADSCRIBE_DATA"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def own_folders(request, monkeypatch, tmp_path_factory):
    """Redirect cache and data folders; tests marked `model` keep the cache, where the fetched model lies."""
    place = tmp_path_factory.mktemp("folders")
    monkeypatch.setenv("HEADSCRIBE_DATA", str(place / "data"))
    if request.node.get_closest_marker("model") is None:
        monkeypatch.setenv("HEADSCRIBE_CACHE", str(place / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
