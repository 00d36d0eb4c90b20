"""Hits on disk: the same from file as scored, spoilt files, other readings, several processes at once."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.checks import kept_hits, pair_scorer
from agent.checks.kept_hits import KeptHits, Pair
from agent.checks.pair_scorer import PairScorer
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.model import Checkpoint
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings
from tests.support.tiny_models import tiny_model

PAIRS = PairSet((3, 4, 5), ((6,), (7, 8), tuple(range(10, 60))), 10)


def hits_of(n_layers: int, n_heads: int, seed: int, n: int = 40) -> dict[Pair, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return {(i, (i + 1, seed), 10): torch.rand(n_layers, n_heads, generator=chance) > 0.5 for i in range(n)}


def kept_in(folder: Path, *, n_layers: int = 3, n_heads: int = 5) -> KeptHits:
    return KeptHits(folder, ["a model"], n_layers=n_layers, n_heads=n_heads)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_what_is_read_is_what_was_written(tmp_path_factory, n_layers, n_heads, seed):
    kept = kept_in(tmp_path_factory.mktemp("kept"), n_layers=n_layers, n_heads=n_heads)
    written = hits_of(n_layers, n_heads, seed)
    assert kept.read(list(written)) == {}
    kept.write(written)
    found = kept.read([*written, (1, (2,), 3)])
    assert found.keys() == written.keys()
    assert all(found[pair].equal(written[pair]) for pair in written)


def test_many_pairs_are_asked_for_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_hits, "_AT_ONCE", 7)
    kept, written = kept_in(tmp_path), hits_of(3, 5, 1)
    kept.write(written)
    assert kept.read(list(written)).keys() == written.keys()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(str(tiny_model("llama", tmp_path_factory.mktemp("tiny"))[0]), device="cpu")


def scorer_of(checkpoint: Checkpoint, folder: Path | None, **options) -> PairScorer:
    return PairScorer(MapsEngine(checkpoint, EngineSettings("embedding", **options)), folder)


def test_a_second_process_scores_nothing_that_is_kept(opened, tmp_path, monkeypatch):
    expected = scorer_of(opened, tmp_path).hits(PAIRS)
    assert expected.equal(scorer_of(opened, None).hits(PAIRS))
    again = scorer_of(opened, tmp_path, top=3)  # the lists of rows do not decide pairs
    assert again.knows([PAIRS])
    monkeypatch.setattr(again.maps, "at", None)  # whoever scores now fails
    assert again.prepare([PAIRS]) == 0
    assert again.hits(PAIRS).equal(expected)


@pytest.mark.parametrize("spoilt", [b"", b"{}", b"no database" * 900, "half", "one page"])
def test_a_spoilt_file_is_made_anew(opened, tmp_path, spoilt):
    expected = scorer_of(opened, tmp_path).hits(PAIRS)
    (path,) = tmp_path.rglob("*.sqlite")
    whole = path.read_bytes()
    cut = {"half": whole[: len(whole) // 2], "one page": whole[:1024]}
    path.write_bytes(cut[spoilt] if isinstance(spoilt, str) else spoilt)
    assert scorer_of(opened, tmp_path).hits(PAIRS).equal(expected)
    assert scorer_of(opened, tmp_path).hits(PAIRS).equal(expected)
    assert scorer_of(opened, tmp_path).knows([PAIRS])


def test_rows_of_another_length_count_as_none(opened, tmp_path):
    expected = scorer_of(opened, tmp_path).hits(PAIRS)
    (path,) = tmp_path.rglob("*.sqlite")
    with sqlite3.connect(path) as table:
        table.execute("UPDATE hits SET heads = x'0000'")
    table.close()
    assert not scorer_of(opened, tmp_path).knows([PAIRS])
    assert scorer_of(opened, tmp_path).hits(PAIRS).equal(expected)


def test_other_models_lead_ins_and_foldings_have_files_of_their_own(opened, tmp_path):
    other = open_checkpoint(str(tiny_model("llama", tmp_path / "other", seed=3)[0]), device="cpu")
    scorers = [
        scorer_of(opened, tmp_path),
        scorer_of(opened, tmp_path, lead_in=(" the",)),
        scorer_of(opened, tmp_path, centred=True),
        scorer_of(opened, tmp_path, fold_norms=True),
        scorer_of(other, tmp_path),
        scorer_of(replace(opened, fingerprint="other"), tmp_path),
    ]
    for one in scorers:
        one.prepare([PAIRS])
    assert len(list(tmp_path.rglob("*.sqlite"))) == len(scorers)


def test_a_place_that_cannot_be_written_to_costs_nothing_but_time(opened, tmp_path):
    (tmp_path / "pair-hits").write_text("a file where the folder should be")
    expected = scorer_of(opened, None).hits(PAIRS)
    assert scorer_of(opened, tmp_path).hits(PAIRS).equal(expected)


def test_without_a_folder_nothing_is_kept(opened, monkeypatch):
    monkeypatch.setattr(pair_scorer, "KeptHits", None)  # whoever opens one fails
    assert scorer_of(opened, None).prepare([PAIRS]) == 3


def written_by(folder: Path, seed: int) -> int:
    kept = kept_in(folder)
    for _ in range(20):
        kept.write(hits_of(3, 5, seed))
    return len(kept.read(list(hits_of(3, 5, seed))))


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(written_by, [tmp_path] * 4, range(4))) == [40] * 4
    kept = kept_in(tmp_path)
    for seed in range(4):
        expected = hits_of(3, 5, seed)
        found = kept.read(list(expected))
        assert all(found[pair].equal(expected[pair]) for pair in expected)
