"""Parts of heads against the plain formula: rows of the centred map, alike by their cosine over the vocabulary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.model import Checkpoint
from maps_engine.ordinary_words import in_finding_half
from maps_engine.parts import grouping, head_parts
from maps_engine.parts.head_parts import PartsReader
from maps_engine.results import EngineSettings, HeadPart
from tests.support.tiny_models import tiny_model

FAMILIES = ["gpt2", "qwen2", "gemma2", "llama-wide-heads-biases", "falcon-rw"]
SETTINGS = (EngineSettings("embedding"), EngineSettings("first-mlp", fold_norms=True), EngineSettings("residual"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tiny vocabularies have few words, and random heads no large groups: all tokens are read, a few are enough."""
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(head_parts, "ordinary_words", lambda *_: ())
    for name, value in {"FEWEST": 3, "NEAR": 0.2, "MEMBER": 0.3}.items():
        monkeypatch.setattr(grouping, name, value)


@pytest.fixture(params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    return open_checkpoint(str(tiny_model(request.param, tmp_path / "model")[0]))


@pytest.fixture
def one(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(str(tiny_model("qwen2", tmp_path / "model")[0]))


def centred_map(maps: MapsEngine, layer: int, head: int) -> tuple[Tensor, Tensor]:
    """Word ids (n,) and rows (n, V) of M less the mean over those words."""
    ids = torch.tensor(maps.part_words)
    every = torch.arange(maps.shape.vocab_size)
    rows = maps.at(maps.settings.source).circuit(layer).entries(head, ids, every).double()
    return ids, rows - rows.mean(0)


def parts_of(maps: MapsEngine, layer: int, head: int) -> tuple[HeadPart, ...]:
    (mapping,) = maps.with_parts([maps.map_head(layer, head)])
    return mapping.parts


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: each.source)
def test_likeness_is_the_cosine_of_whole_rows(checkpoint, settings):
    maps = MapsEngine(checkpoint, settings)
    reader = PartsReader(maps.at(settings.source))
    close = 1e-4 if settings.source != "residual" else 5e-3  # rows of `residual` are rounded to float16
    for layer in range(maps.shape.n_layers):
        circuit = reader.at.circuit(layer)
        a = circuit.values(reader.words)[0]
        for head in (0, maps.shape.n_heads - 1):
            own = a[:, head // circuit.heads.group]
            found = normalize((own - own.mean(0)) @ reader._factor(circuit.heads.output[head]), dim=-1)
            _, plain = centred_map(maps, layer, head)
            plain = normalize(plain - plain.mean(1, keepdim=True), dim=-1)
            assert torch.allclose(found.double() @ found.double().T, plain @ plain.T, atol=close)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: each.source)
def test_rows_of_parts_are_rows_of_the_centred_map(checkpoint, settings):
    maps = MapsEngine(checkpoint, settings)
    close = 1e-3 if settings.source != "residual" else 3e-2
    seen = 0
    for layer in range(maps.shape.n_layers):
        for head in range(maps.shape.n_heads):
            ids, plain = centred_map(maps, layer, head)
            place = {word: i for i, word in enumerate(ids.tolist())}
            for part in parts_of(maps, layer, head):
                seen += 1
                for row in (*part.rows, *part.held_out_rows):
                    best = plain[place[row.token_id]].topk(len(row.targets))
                    assert [t.score for t in row.targets] == pytest.approx(best.values.tolist(), rel=close, abs=close)
                found_by = [place[i] for i in part.members if in_finding_half(maps.checkpoint.vocabulary.text(i))]
                common = plain[found_by].mean(0).topk(len(part.targets))
                assert part.size == len(found_by)
                assert [t.score for t in part.targets] == pytest.approx(common.values.tolist(), rel=close, abs=close)
    assert seen > 3


def test_halves_find_and_test(one):
    maps = MapsEngine(one, EngineSettings("embedding"))
    text, parts = one.vocabulary.text, parts_of(maps, 1, 0)
    assert parts
    for part in parts:
        assert all(in_finding_half(text(row.token_id)) for row in part.rows)
        assert not any(in_finding_half(text(row.token_id)) for row in part.held_out_rows)
        assert {row.token_id for row in (*part.rows, *part.held_out_rows)} <= part.members
        assert 0 < part.share <= part.along <= 1 + 1e-6
        assert part.test.n == len(part.held_out_rows)
        assert part.test.hits <= part.test.n
        assert 0 <= part.test.p <= 1


def test_parts_share_no_word_and_the_largest_is_first(one):
    parts = parts_of(MapsEngine(one, EngineSettings("embedding")), 0, 1)
    members = [word for part in parts for word in part.members]
    assert members
    assert len(members) == len(set(members))
    assert [part.share for part in parts] == sorted((part.share for part in parts), reverse=True)
    assert sum(part.share for part in parts) <= 1 + 1e-6


def test_centred_x_has_the_same_parts(one):
    plain, centred = (MapsEngine(one, EngineSettings("embedding", centred=flag)) for flag in (False, True))
    both = parts_of(plain, 0, 2), parts_of(centred, 0, 2)
    assert both[0]
    for found, other in zip(*both, strict=True):
        assert found.members == other.members
        assert [row.token_id for row in found.rows] == [row.token_id for row in other.rows]


def test_a_head_that_writes_nothing_has_no_parts(one, tmp_path):
    class Silent:
        def __getattr__(self, name):
            return getattr(one.weights, name)

        def attention(self, layer):
            found = one.weights.attention(layer)
            return replace(found, output=torch.zeros_like(found.output))

    assert parts_of(MapsEngine(replace(one, weights=Silent()), EngineSettings("embedding")), 0, 0) == ()


def test_a_head_of_rank_one_has_two_opposite_parts_at_most(one):
    class Flat:
        def __getattr__(self, name):
            return getattr(one.weights, name)

        def attention(self, layer):
            found = one.weights.attention(layer)
            output = found.output.clone()
            output[:, 1:] = 0
            return replace(found, output=output)

    parts = parts_of(MapsEngine(replace(one, weights=Flat()), EngineSettings("embedding")), 0, 0)
    assert len(parts) == 2
    assert all(part.along == pytest.approx(1.0, abs=1e-4) for part in parts)
    assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-4)


def test_other_targets_and_fewer_words_are_listed_as_asked(one, monkeypatch):
    monkeypatch.setattr(head_parts, "ROWS", 2)
    parts = parts_of(MapsEngine(one, EngineSettings("embedding", targets=13)), 0, 1)
    assert parts
    for part in parts:
        assert len(part.rows) <= 2
        assert all(len(row.targets) == 13 for row in part.rows)
        assert len(part.common) == head_parts.K


def test_tokens_that_may_not_be_listed_are_in_no_part(one):
    parts = parts_of(MapsEngine(one, EngineSettings("embedding", include_special=False)), 0, 1)
    assert parts
    for part in parts:
        assert all(one.vocabulary.kind(t.token_id) == "normal" for row in part.rows for t in row.targets)


def test_undertrained_tokens_of_parts_are_marked(one, monkeypatch):
    maps = MapsEngine(one, EngineSettings("embedding"))
    part = parts_of(maps, 0, 1)[0]
    strange = part.rows[0].targets[0].token_id
    at = maps.at("embedding")
    at.undertrained = frozenset({strange})
    (mapping,) = maps.with_parts([maps.map_head(0, 1)])
    assert strange in mapping.dimmed
