"""Attention of a model's heads, read once: by this process, or by one before it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.pipeline import attention
from agent.pipeline.attention import AttentionReader
from agent.pipeline.flow import Conditions, map_heads
from agent.pipeline.workbench import equip
from maps_engine import fitting
from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel
from maps_engine.qk import class_fits
from maps_engine.qk.composition import read_composition
from maps_engine.qk.kinds import kinds
from maps_engine.results import EngineSettings, HeadAttention
from tests.support.agent.bulk_runs import QueueDescriber, letter_bench, tiny_request
from tests.support.agent.queue_models import wordy_model


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> MapsEngine:
    return MapsEngine.open(str(wordy_model(tmp_path_factory.mktemp("model") / "tiny")), device="cpu")


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The last layer of each reading of the model."""
    asked: list[int] = []
    real = MapsEngine.attention

    def counted(self: MapsEngine, *, classes=(), last=None) -> Iterator[tuple[HeadAttention, ...]]:
        asked.append(last)
        return real(self, classes=classes, last=last)

    monkeypatch.setattr(MapsEngine, "attention", counted)
    return asked


def test_a_second_process_reads_the_file_and_finds_the_same(maps: MapsEngine, tmp_path: Path, reads: list[int]) -> None:
    told: list[tuple[int, int]] = []
    first = AttentionReader(maps, tmp_path).layers(1, lambda *step: told.append(step))
    assert told == [(1, 2), (2, 2)]
    second = AttentionReader(maps, tmp_path).layers(1)
    assert list(first) == list(second)
    assert reads == [1]
    assert first[1][2].attends
    assert first[1][2].profile


def test_more_layers_are_read_when_asked_for(maps: MapsEngine, tmp_path: Path, reads: list[int]) -> None:
    reader = AttentionReader(maps, tmp_path)
    (early,) = reader.layers(0)
    assert len(reader.layers(1)) == 2
    assert reader.layers(0)[0] == early
    assert reads == [0, 1]
    assert len(AttentionReader(maps, tmp_path).layers(0)) == 2


@pytest.mark.parametrize("damage", [b"", b"[[", b"{}", b'[[{"previous": 1}]]', b"[[null]]", b"[[]]", b"\xff"])
def test_a_damaged_file_is_read_anew(damage: bytes, maps: MapsEngine, tmp_path: Path, reads: list[int]) -> None:
    whole = AttentionReader(maps, tmp_path).layers(0)
    (file,) = (tmp_path / "attention").iterdir()
    file.write_bytes(damage)
    assert list(AttentionReader(maps, tmp_path).layers(0)) == list(whole)
    assert reads == [0, 0]


def test_a_reading_that_was_interrupted_leaves_nothing_behind(maps: MapsEngine, tmp_path: Path, reads) -> None:
    reader = AttentionReader(maps, tmp_path)

    def stop(done: int, wanted: int) -> None:
        raise KeyboardInterrupt(f"{done} of {wanted}")

    with pytest.raises(KeyboardInterrupt):
        reader.layers(1, stop)
    assert not (tmp_path / "attention").exists()
    assert list(reader.layers(0)) == list(AttentionReader(maps).layers(0))
    assert reads == [1, 0, 0]


def test_a_run_reads_the_whole_model_at_once_and_the_longer_file_is_kept(
    maps: MapsEngine, tmp_path: Path, reads
) -> None:
    short, whole = AttentionReader(maps, tmp_path), AttentionReader(maps, tmp_path)
    short.layers(0)
    found = list(maps.map_heads([0], heads=[0, 1]))
    assert all(one.attention for one in whole.with_attention(found, whole=True))
    assert len(whole.layers(1)) == maps.shape.n_layers
    (file,) = (tmp_path / "attention").iterdir()
    before = file.read_bytes()
    AttentionReader(maps, tmp_path)._read(0, attention.untold)
    assert file.read_bytes() == before
    assert reads == [0, maps.shape.n_layers - 1, 0]


def test_what_was_read_is_given_where_it_cannot_be_kept(maps: MapsEngine, tmp_path: Path) -> None:
    (tmp_path / "attention").write_text("a file, no folder")
    assert len(AttentionReader(maps, tmp_path).layers(0)) == 1


def test_other_rules_are_another_file(maps: MapsEngine, tmp_path: Path, monkeypatch, reads: list[int]) -> None:
    AttentionReader(maps, tmp_path).layers(0)
    monkeypatch.setattr(class_fits, "STRENGTH", class_fits.STRENGTH + 1)
    AttentionReader(maps, tmp_path).layers(0)
    monkeypatch.setattr(attention, "word_classes_version", lambda: "another")
    AttentionReader(maps, tmp_path).layers(0)
    assert reads == [0, 0, 0]
    assert len(list((tmp_path / "attention").iterdir())) == 3


def test_without_a_folder_nothing_is_kept(maps: MapsEngine, tmp_path: Path, reads: list[int]) -> None:
    reader = AttentionReader(maps)
    reader.layers(0)
    reader.layers(0)
    AttentionReader(maps).layers(0)
    assert reads == [0, 0]
    assert not list(tmp_path.iterdir())


def test_mappings_get_the_attention_of_their_heads(maps: MapsEngine) -> None:
    found = list(maps.map_heads([1], heads=[0, 2]))
    read = AttentionReader(maps).with_attention(found)
    assert [(one.attention.layer, one.attention.head) for one in read if one.attention] == [(1, 0), (1, 2)]
    assert [replace(one, attention=None) for one in read] == found
    assert AttentionReader(maps).with_attention([]) == []


def test_a_model_of_few_places_is_described_without(tmp_path: Path) -> None:
    model = wordy_model(tmp_path / "model", "gpt2")
    maps = MapsEngine.open(str(model), settings=EngineSettings("embedding"), device="cpu")
    with pytest.raises(UnsupportedModel, match="too few places"):
        AttentionReader(maps).layers(0)
    found = list(maps.map_heads([0], heads=[0]))
    assert AttentionReader(maps).with_attention(found) == found


def test_a_model_too_large_for_this_machine_is_described_without(maps: MapsEngine, monkeypatch, reads) -> None:
    found = list(maps.map_heads([0], heads=[0]))
    monkeypatch.setattr(fitting, "ON_PROCESSOR", 1.0)
    assert AttentionReader(maps).with_attention(found) == found
    assert reads == []
    assert AttentionReader(maps).layers(0), "who asks for it is given it"


def test_the_time_that_reading_takes_is_told_until_it_is_kept(maps: MapsEngine, tmp_path: Path, monkeypatch) -> None:
    reader = AttentionReader(maps, tmp_path)
    started = time.perf_counter()
    told = reader.seconds()
    assert 0 < told < 2 * (time.perf_counter() - started) * maps.shape.n_layers
    reader.layers(0)
    assert reader.seconds() > 0, "one layer is not the whole model"
    reader.layers(maps.shape.n_layers - 1)
    assert reader.seconds() == AttentionReader(maps, tmp_path).seconds() == 0
    monkeypatch.setattr(fitting, "ON_PROCESSOR", 1.0)
    assert AttentionReader(maps).seconds() == 0, "a model that is too large is described without"


def test_heads_are_told_what_feeds_them(maps: MapsEngine, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attention, "STRONG", 0.0)
    layers = AttentionReader(maps, tmp_path).layers(1)
    assert all(one.fed_by == () for one in layers[0])
    found = read_composition(maps.checkpoint)
    for one in layers[1]:
        edges = found.of_head(1, one.head, attention.FEEDS)
        assert [(feed.part, feed.layer, feed.head) for feed in one.fed_by] == [(e.kind, *e.source) for e in edges]
        assert {feed.part for feed in one.fed_by} == {"K", "Q", "V"}
        assert all(feed.kinds == kinds(layers[feed.layer][feed.head]) for feed in one.fed_by)
    assert list(AttentionReader(maps, tmp_path).layers(1)) == list(layers)


def test_what_heads_attend_to_can_be_left_out(tmp_path: Path) -> None:
    request = tiny_request(wordy_model(tmp_path / "tiny"), store_folder=tmp_path / "chroma")
    bench = letter_bench(request, QueueDescriber())
    without = replace(bench, attention=None)
    (read,) = map_heads(bench, [(1, 2)], Conditions())
    (left,) = map_heads(without, [(1, 2)], Conditions())
    assert read.attention is not None
    assert left == replace(read, attention=None)
    assert bench.identity != without.identity
    assert equip(bench.maps, replace(request, describer="lexical", attention=False)).attention is None
