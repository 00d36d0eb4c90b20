"""Heads read through the residual stream: against the running model, kept on disk, and lead-ins."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint
from maps_engine.ov.kept_rows import LIMIT_VARIABLE, KeptRows
from maps_engine.ov.residuals import lead_in_ids, open_residuals
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings
from tests.support.tiny_models import ROWS, tiny_model

RESIDUAL = EngineSettings("residual", top=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model("qwen2", tmp_path / "model")[0]


@pytest.fixture
def checkpoint(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "cache"))
    return open_checkpoint(str(folder))


@pytest.fixture
def no_room() -> Iterator[None]:
    """The system refuses to write more than 100 bytes of a file, as a full disk does."""
    signals, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, signals)


def attention_values(folder: Path, lead_in: tuple[int, ...], layer: int) -> torch.Tensor:
    """(V, K * d_h): what the running model's value projection gives at the position of every token."""
    model, seen = AutoModelForCausalLM.from_pretrained(folder), []
    model.model.layers[layer].self_attn.v_proj.register_forward_hook(lambda *args: seen.append(args[-1][:, -1]))
    texts = torch.tensor([[*lead_in, token] for token in range(ROWS)])
    with torch.no_grad():
        model(texts)
    return seen[0]


@pytest.mark.parametrize("layer", [0, 1])
def test_values_are_those_of_the_running_model(folder, checkpoint, layer):
    circuit = SourceEngine(checkpoint, RESIDUAL).circuit(layer)
    values, _ = circuit.values(torch.arange(ROWS))
    theirs = attention_values(folder, checkpoint.vocabulary.start, layer)
    assert torch.allclose(values.flatten(1), theirs, atol=2e-3 * theirs.abs().max().item())  # rows are float16


def test_several_lead_ins_give_their_mean(checkpoint):
    ids = torch.arange(8)
    alone = [open_residuals(checkpoint, [text]).rows(1, ids) for text in (" the", " one two")]
    both = open_residuals(checkpoint, [" the", " one two"]).rows(1, ids)
    assert torch.allclose(both, (alone[0] + alone[1]) / 2, atol=2e-3)


def test_a_few_tokens_are_read_as_in_the_whole_vocabulary(checkpoint):
    table, ids = open_residuals(checkpoint, [""]), torch.tensor([9, 3, 70])
    alone = table.rows(1, ids)
    assert torch.allclose(alone, open_residuals(checkpoint, [""]).hold(1)[ids], atol=2e-3)


def test_layers_can_be_asked_for_in_any_order(checkpoint):
    table = open_residuals(checkpoint, [""])
    forwards = [table.hold(layer).clone() for layer in (0, 1)]
    assert all(torch.equal(table.hold(layer), forwards[layer]) for layer in (1, 0, 1))
    assert torch.equal(table.rows(0, torch.tensor([5])), forwards[0][5:6])


def test_rows_that_were_kept_are_those_that_were_computed(checkpoint, monkeypatch):
    first = SourceEngine(checkpoint, RESIDUAL).map_head(1, 2)
    monkeypatch.setattr(type(checkpoint.weights), "residuals", None)  # nothing is computed from here on
    assert SourceEngine(checkpoint, RESIDUAL).map_head(1, 2) == first
    with pytest.raises(TypeError):
        SourceEngine(checkpoint, replace(RESIDUAL, lead_in=(" the",))).map_head(1, 2)


@pytest.mark.parametrize("spoil", [lambda blob: blob[:-7], lambda blob: b"", lambda blob: b"{}" + blob])
def test_a_file_of_rows_that_was_spoilt_is_computed_again(checkpoint, spoil):
    first = SourceEngine(checkpoint, RESIDUAL).map_head(1, 2)
    for file in kept(checkpoint).folder.iterdir():
        file.write_bytes(spoil(file.read_bytes()))
    assert SourceEngine(checkpoint, RESIDUAL).map_head(1, 2) == first


def test_a_disk_without_room_only_means_that_nothing_is_kept(checkpoint, no_room):
    SourceEngine(checkpoint, RESIDUAL).map_head(1, 2)
    assert not any(kept(checkpoint).folder.iterdir())


def test_what_was_used_longest_ago_makes_room(checkpoint, monkeypatch):
    first, second = (kept(checkpoint, lead_in) for lead_in in ([1], [2]))
    monkeypatch.setenv(LIMIT_VARIABLE, str(1.5 * 2 * ROWS * 32 * 2 / 1e9))  # room for one of two
    rows = torch.zeros(ROWS, 32, dtype=torch.float16)
    first.write(0, rows)
    second.write(0, rows)
    assert second.has(0)
    assert not first.folder.exists()


@pytest.mark.parametrize("gigabytes", ["0", "0.000001"])
def test_rows_that_do_not_fit_are_not_kept(checkpoint, monkeypatch, gigabytes):
    monkeypatch.setenv(LIMIT_VARIABLE, gigabytes)
    SourceEngine(checkpoint, RESIDUAL).map_head(1, 2)
    assert not kept(checkpoint).folder.exists()


def test_a_bound_that_is_no_number_is_told(checkpoint, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(UserMistake, match=LIMIT_VARIABLE):
        SourceEngine(checkpoint, RESIDUAL).map_head(1, 2)


def test_a_lead_in_of_unknown_tokens_and_none_at_all(checkpoint):
    vocabulary = checkpoint.vocabulary
    assert lead_in_ids(vocabulary, "") == vocabulary.start == (0,)
    assert lead_in_ids(vocabulary, " the") == (0, *vocabulary.encode(" the"))

    class Startless:
        start = ()
        encode, kind = vocabulary.encode, vocabulary.kind

    assert lead_in_ids(Startless(), " the") == tuple(vocabulary.encode(" the"))
    with pytest.raises(UserMistake, match="--lead-in"):
        lead_in_ids(Startless(), "")


def test_settings_say_the_lead_in_only_where_it_decides_something():
    assert "lead_in" not in EngineSettings("first-mlp").to_json()
    assert RESIDUAL.to_json()["lead_in"] == [""]
    assert EngineSettings(**RESIDUAL.to_json()) == RESIDUAL


def test_the_lead_in_is_said_to_people():
    assert EngineSettings("first-mlp").reading == "first-mlp"
    assert RESIDUAL.reading == "residual behind the start of texts"
    assert replace(RESIDUAL, lead_in=(" a",)).reading == "residual behind the start of texts and ' a'"


def test_all_heads_of_a_layer_are_read_as_one_head_is(checkpoint):
    engine = MapsEngine(checkpoint, RESIDUAL)
    assert list(engine.map_heads([1]))[2] == engine.map_head(1, 2)


def kept(checkpoint: Checkpoint, lead_in: list[int] | None = None) -> KeptRows:
    """The rows of the table that `open_residuals` makes."""
    table = open_residuals(checkpoint, [""]) if lead_in is None else None
    if table is not None:
        return table.kept
    return KeptRows({"lead_in": lead_in}, n_layers=2, rows=ROWS, width=32)
