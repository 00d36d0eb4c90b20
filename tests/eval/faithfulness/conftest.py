"""What tests of stored runs against a running model share: a tiny model with words, and a database of runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.runs.database import open_database
from eval.faithfulness.bench import Bench
from tests.support.eval.named_runs import wordy_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return wordy_bench(tmp_path)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_database(str(tmp_path / "runs.sqlite"))
    yield made
    made.dispose()
