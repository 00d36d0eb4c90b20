"""Undertrained tokens: told from rows of U that lie with those of reserved tokens, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.results import EngineSettings, ScoredToken
from maps_engine.undertrained import undertrained_tokens
from tests.support.tiny_models import ROWS, VOCABULARY, tiny_model

RESERVED = range(VOCABULARY, ROWS)  # padding rows, which no text can spell
PUSHED_DOWN = (7, 40)  # ordinary tokens that are trained as little


@pytest.fixture
def folder(tmp_path):
    """A tiny model whose padding rows, and two other ones, were pushed down alike."""
    place, model = tiny_model("llama", tmp_path / "model")
    torch.manual_seed(3)
    u = model.get_output_embeddings().weight.data
    common = torch.randn(u.shape[1])
    for i in (*RESERVED, *PUSHED_DOWN):
        u[i] = common + 0.05 * torch.randn(u.shape[1])
    model.save_pretrained(place)
    return place


def test_tokens_that_lie_with_reserved_ones_are_told(folder):
    assert undertrained_tokens(open_checkpoint(str(folder))) == {*RESERVED, *PUSHED_DOWN}


def test_nothing_is_told_where_reserved_tokens_do_not_lie_together(tmp_path):
    assert undertrained_tokens(open_checkpoint(str(tiny_model("llama", tmp_path / "m")[0]))) == frozenset()


def test_rows_of_zeros_are_undertrained_whatever_the_others_are(tmp_path):
    place, model = tiny_model("llama", tmp_path / "model")
    model.get_output_embeddings().weight.data[[5, *RESERVED]] = 0.0
    model.save_pretrained(place)
    assert undertrained_tokens(open_checkpoint(str(place))) == {5, *RESERVED}


def test_nothing_is_told_where_most_tokens_lie_together(tmp_path):
    place, model = tiny_model("llama", tmp_path / "model")
    u = model.get_output_embeddings().weight.data
    u += 50 * u.norm(dim=1).max()  # one direction that all rows share
    model.save_pretrained(place)
    assert undertrained_tokens(open_checkpoint(str(place))) == frozenset()


def test_mappings_mark_those_that_they_show_and_evidence_is_without_them(folder):
    engine = MapsEngine.open(str(folder), settings=EngineSettings("embedding", top=20, targets=20))
    for mapping in engine.map_heads([1]):
        shown = {row.token_id for row in (*mapping.rows, *mapping.held_out_rows, *mapping.suppressed_rows)}
        shown |= {t.token_id for row in (*mapping.rows, *mapping.held_out_rows) for t in row.targets}
        shown |= {t.token_id for row in mapping.suppressed_rows for t in row.targets}
        shown |= {t.token_id for t in mapping.constant.targets}
        assert set(mapping.undertrained) == shown & {*RESERVED, *PUSHED_DOWN}
        left = mapping.evidence(mapping.rows)
        assert not {row.token_id for row in left} & set(mapping.undertrained)
        assert not {t.token_id for row in left for t in row.targets} & set(mapping.undertrained)
        kept = [row for row in mapping.rows if row.token_id not in mapping.undertrained]
        assert [row.token_id for row in left] == [row.token_id for row in kept]
        assert mapping.dimmed <= set(mapping.undertrained)


def test_marks_are_those_of_the_tokens_beside_too(folder):
    engine = MapsEngine.open(str(folder), settings=EngineSettings("embedding", top=3, targets=30))
    (mapping,) = engine.with_same_tokens(list(engine.map_heads([1], heads=[0])))
    beside = {t.token_id for row in mapping.same_tokens.rows for t in row.targets}
    assert set(mapping.undertrained) >= beside & {*RESERVED, *PUSHED_DOWN}
    bare = replace(mapping, undertrained=())
    assert bare.evidence(bare.rows) is bare.rows
    assert all(isinstance(t, ScoredToken) for row in mapping.evidence(mapping.rows) for t in row.targets)
