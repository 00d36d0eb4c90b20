"""Large tables are read again instead of held, with the same lists."""

from __future__ import annotations

import mmap

import pytest
import torch
from safetensors.torch import save_file

from maps_engine.checkpoints.formats import safetensors_source
from maps_engine.checkpoints.formats.safetensors_source import SafetensorsSource
from maps_engine.engine import MapsEngine
from maps_engine.ov import source_maps
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint


def lists_of(source, precision):
    engine = MapsEngine(memory_checkpoint(), EngineSettings(source=source, top=10), precision)
    return engine, list(engine.map_heads())


@pytest.mark.parametrize("source", ["embedding", "first-mlp"])
def test_lists_are_those_of_tables_that_are_held(source, monkeypatch):
    _, expected = lists_of(source, "bfloat16")
    monkeypatch.setattr(source_maps, "HELD_BYTES", 0)
    engine, found = lists_of(source, "bfloat16")
    assert found == expected
    one = engine.at(source)
    assert one.unembedding._held is None
    assert set(one.sources._held) == (set() if source == "embedding" else {False})


def test_without_bfloat16_tables_are_held_whatever_their_size(monkeypatch):
    monkeypatch.setattr(source_maps, "HELD_BYTES", 0)
    engine, _ = lists_of("embedding", "float32")
    assert engine.at("embedding").unembedding._held is not None


def test_pages_are_given_back_and_views_stay_good(tmp_path, monkeypatch):
    given_back = []

    class Counted(mmap.mmap):
        def madvise(self, *arguments):
            given_back.append(arguments)
            return super().madvise(*arguments)

    monkeypatch.setattr(safetensors_source.mmap, "mmap", Counted)
    monkeypatch.setattr(safetensors_source, "_KEPT_BYTES", 3000)
    table = torch.randn(100, 20)
    save_file({"t": table, "u": table + 1}, tmp_path / "x.safetensors")
    source = SafetensorsSource(tmp_path / "x.safetensors")
    early = source.read_rows("t", slice(0, 10))
    for _ in range(3):
        assert torch.equal(source.read("u"), table + 1)
    assert torch.equal(source.read_rows("t", torch.tensor([5, 99])), table[[5, 99]])
    assert torch.equal(early, table[:10])
    assert len(given_back) == 3
