"""Centred X: a constant row of M taken off, for every representation and family, whatever the biases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint
from maps_engine.ov import centred
from maps_engine.ov.centred import centring_sample
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings
from tests.support.tiny_models import ROWS, tiny_model

SETTINGS = (
    EngineSettings("embedding"),
    EngineSettings("first-mlp", fold_norms=True),
    EngineSettings("residual"),
)


@pytest.fixture(params=["gpt2", "qwen2", "gemma2", "llama-wide-heads-biases", "falcon-rw"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "cache"))
    return open_checkpoint(str(tiny_model(request.param, tmp_path / "model")[0]))


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "cache"))
    return open_checkpoint(str(tiny_model("qwen2", tmp_path / "model")[0]))


def whole_map(checkpoint: Checkpoint, settings: EngineSettings, layer: int, head: int) -> torch.Tensor:
    """M, all of it."""
    every = torch.arange(ROWS)
    return SourceEngine(checkpoint, settings).circuit(layer).entries(head, every, every)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: one.source)
def test_the_mean_row_is_taken_off_the_map(checkpoint, settings):
    sample = [i for i in range(ROWS) if checkpoint.vocabulary.kind(i) == "normal"]  # fewer than 512: all of them
    for layer in (0, 1):
        plain = whole_map(checkpoint, settings, layer, 3)
        found = whole_map(checkpoint, replace(settings, centred=True), layer, 3)
        close = 1e-5 if settings.source != "residual" else 2e-3  # rows of `residual` are rounded to float16
        assert torch.allclose(found, plain - plain[sample].mean(0), atol=close * plain.abs().max().item())
        assert not torch.allclose(found, plain, atol=close * plain.abs().max().item())


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: one.source)
def test_the_constant_part_is_the_mean_row_with_its_share_of_a_salient_row(checkpoint, settings):
    listed = replace(settings, top=6, targets=4)
    engine = SourceEngine(checkpoint, listed)
    sample = torch.tensor([i for i in range(ROWS) if checkpoint.vocabulary.kind(i) == "normal"])
    for layer in (0, 1):
        circuit = engine.circuit(layer)
        for mapping in engine.map_layer(layer):
            mean = whole_map(checkpoint, settings, layer, mapping.head)[sample].mean(0)
            best = mean.topk(4)
            part = mapping.constant
            assert [one.token_id for one in part.targets] == best.indices.tolist()
            close = 1e-4 if settings.source != "residual" else 1e-2
            assert [one.score for one in part.targets] == pytest.approx(best.values.tolist(), rel=close)
            salient = circuit.written(mapping.head, torch.tensor([row.token_id for row in mapping.rows]))
            written = circuit.written(mapping.head, sample).mean(0)
            assert part.share == pytest.approx(float(written.norm() / salient.norm(dim=-1).mean()), rel=close)
            assert engine.map_head(layer, mapping.head).constant.share == pytest.approx(part.share, rel=1e-4)
    centred_engine = SourceEngine(checkpoint, replace(listed, centred=True))
    assert [one.constant for one in centred_engine.map_layer(1)] == [None] * 4


def test_a_vocabulary_without_ordinary_tokens_has_no_constant_part(one, monkeypatch):
    monkeypatch.setattr(type(one.vocabulary), "kind", lambda *_: "special")
    (mapping, *_) = SourceEngine(one, EngineSettings("embedding")).map_layer(0)
    assert mapping.constant is None


def test_the_sample_is_spread_over_ordinary_tokens(one, monkeypatch):
    monkeypatch.setattr(centred, "SAMPLE", 7)
    normal = [i for i in range(ROWS) if one.vocabulary.kind(i) == "normal"]
    assert centring_sample(one).tolist() == [normal[i * len(normal) // 7] for i in range(7)]


def test_a_vocabulary_without_ordinary_tokens_is_refused(one, monkeypatch):
    monkeypatch.setattr(type(one.vocabulary), "kind", lambda *_: "byte")
    with pytest.raises(UserMistake, match="cannot be centred"):
        centring_sample(one)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("source", ["first-mlp", "residual"])
def test_one_head_and_all_heads_are_mapped_alike(one, source, precision):
    engine = SourceEngine(one, EngineSettings(source, centred=True, top=4), precision)
    several, alone = engine.map_layer(1)[2], engine.map_head(1, 2)
    assert [row.token_id for row in several.rows] == [row.token_id for row in alone.rows]
    assert several.rows[0].salience == pytest.approx(alone.rows[0].salience, rel=1e-4)
    assert torch.equal(engine.sources.hold(1)[[5]], engine.sources.rows(1, torch.tensor([5])))
    assert engine.sources.version(1) == 1 - (source == "first-mlp")
    assert not engine.sources.is_stored(1)


def test_the_mean_is_computed_once_for_layers_with_the_same_rows(one, monkeypatch):
    engine = SourceEngine(one, EngineSettings("embedding", centred=True))
    asked, rows = [], type(engine.sources._inner).rows
    monkeypatch.setattr(
        type(engine.sources._inner), "rows", lambda self, layer, ids: asked.append(len(ids)) or rows(self, layer, ids)
    )
    for layer in (0, 1, 0):
        engine.sources.rows(layer, torch.tensor([4]))
    assert asked.count(1) == 3
    assert len(asked) == 4


def test_settings_say_that_they_are_centred():
    assert EngineSettings("residual").to_json()["centred"] is False
    centred_settings = EngineSettings("residual", centred=True)
    assert centred_settings.to_json()["centred"] is True
    assert EngineSettings(**centred_settings.to_json()) == centred_settings
    assert centred_settings.reading == "residual behind the start of texts, centred"
    with pytest.raises(UserMistake, match="centred"):
        EngineSettings("embedding", centred="false")
