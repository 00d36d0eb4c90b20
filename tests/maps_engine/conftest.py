"""A tiny llama checkpoint, and copies of it to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("llama"))[0]


@pytest.fixture
def copy(llama_folder, tmp_path) -> Path:
    """A copy of the tiny llama that a test may spoil."""
    return Path(shutil.copytree(llama_folder, tmp_path / "copy"))
