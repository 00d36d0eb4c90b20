"""A planted head is part of the model: layers above it read what it writes, as in the model that holds its weights."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.ov.kept_rows import LIMIT_VARIABLE
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from maps_engine.scores.summary import summarise
from maps_engine.scores.table import score_relations
from tests.support.planting import PlantedWeights, plant
from tests.support.tiny_models import ROWS, tiny_model

LAYERS = 3


@pytest.fixture
def tiny(tmp_path):
    folder, model = tiny_model("llama", tmp_path / "model", num_hidden_layers=LAYERS)
    return open_checkpoint(str(folder), device="cpu"), model


def streamed(weights):
    stream, found = weights.residuals(torch.arange(ROWS), (0, 3)), []
    for _ in range(LAYERS):
        found.append(stream.rows.clone())
        stream.advance()
    return [*found, stream.rows]


def test_a_planted_head_changes_what_later_layers_read_and_nothing_before(tiny, tmp_path):
    checkpoint, model = tiny
    g = torch.Generator().manual_seed(1)
    w_v, w_o = torch.randn(32, 8, generator=g), torch.randn(8, 32, generator=g)
    planted = PlantedWeights(checkpoint.weights, {(1, 2): (w_v, w_o)})
    before, after = streamed(checkpoint.weights), streamed(planted)
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True, True, False, False]
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        attention.v_proj.weight[8:16] = w_v.T  # heads 2 and 3 share the second value head
        attention.o_proj.weight[:, 16:24] = w_o.T
    model.save_pretrained(tmp_path / "model")
    for one, other in zip(after, streamed(open_checkpoint(str(tmp_path / "model"), device="cpu").weights), strict=True):
        torch.testing.assert_close(one, other)
    assert all(torch.equal(one, other) for one, other in zip(before, streamed(checkpoint.weights), strict=True))


@pytest.mark.parametrize("source", ["embedding", "first-mlp", "residual"])
def test_planted_operations_are_found_under_the_source_they_were_planted_under(tiny, monkeypatch, source):
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    checkpoint, _ = tiny
    vocabulary = checkpoint.vocabulary
    words = [text[1:] for i in range(len(vocabulary)) if (text := vocabulary.text(i))[:1] == " " and text[1:].isalpha()]
    model = load_relations(["country-to-capital"])[0]
    relations = [
        replace(model, name=name, k=3, pairs=tuple((a, (b,)) for a, b in list(pairwise(words))[start : start + 6]))
        for name, start in (("first", 0), ("second", 8))
    ]
    planted = plant(checkpoint, [(relations[1], 2, 1), (relations[0], 1, 3)], source=source)
    assert planted.fingerprint != plant(checkpoint, [(relations[1], 2, 1)], source=source).fingerprint
    scores = score_relations(MapsEngine(planted, EngineSettings(source)), relations, min_pairs=6)
    best = {one.name: one.best[0] for one in summarise(scores, tau=0.15)}
    assert (best["first"].label, best["second"].label) == ("1.3", "2.1")
    assert min(one.score for one in best.values()) >= 0.9
