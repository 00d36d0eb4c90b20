"""Shared by all tests: nothing is read from or written to the user's own folders, and nothing reaches the net."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_folders(request, monkeypatch, tmp_path_factory):
    """Redirect cache and data folders; tests marked `model` keep the cache, where the fetched model lies."""
    place = tmp_path_factory.mktemp("folders")
    monkeypatch.setenv("HEADSCRIBE_DATA", str(place / "data"))
    if request.node.get_closest_marker("model") is None:
        monkeypatch.setenv("HEADSCRIBE_CACHE", str(place / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
