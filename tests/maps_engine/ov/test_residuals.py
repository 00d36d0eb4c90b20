"""Heads read through the residual stream: against the running model, kept on disk, lead-ins, words, company."""

from __future__ import annotations

import json
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
from maps_engine.errors import OutOfRange, UserMistake
from maps_engine.model import Checkpoint
from maps_engine.ordinary_words import ordinary_words
from maps_engine.ov.kept_rows import LIMIT_VARIABLE, KeptRows
from maps_engine.ov.pair_scores import PairSet
from maps_engine.ov.residuals import lead_in_ids, open_residuals
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings
from tests.support.tiny_models import FAMILIES, ROWS, tiny_model

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


@pytest.mark.parametrize("source", ["residual", "first-mlp"])
def test_settings_always_say_the_lead_in(source):
    """Pairs are scored behind it, whatever heads are read under."""
    settings = EngineSettings(source, words=7, lead_in=("", " a"))
    assert settings.to_json()["lead_in"] == ["", " a"]
    assert EngineSettings(**json.loads(json.dumps(settings.to_json()))) == settings


def test_the_lead_in_is_said_to_people():
    assert EngineSettings("first-mlp").reading == "first-mlp"
    assert RESIDUAL.reading == "residual behind the start of texts"
    behind = replace(RESIDUAL, lead_in=(" a",))
    assert behind.reading == "residual behind the start of texts and ' a'"
    assert replace(behind, words=9).reading == "residual behind the start of texts and ' a', among 9 ordinary words"
    assert EngineSettings("first-mlp", words=9, lead_in=(" a",)).reading == "first-mlp, among 9 ordinary words"


def test_all_heads_of_a_layer_are_read_as_one_head_is(checkpoint):
    engine = MapsEngine(checkpoint, RESIDUAL)
    among_all, alone = list(engine.map_heads([1]))[2], engine.map_head(1, 2)
    assert [row.token_id for row in among_all.rows] == [row.token_id for row in alone.rows]
    for ours, theirs in zip(among_all.rows, alone.rows, strict=True):
        assert [one.token_id for one in ours.targets] == [one.token_id for one in theirs.targets]
        scores = [[one.score for one in row.targets] for row in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-5)  # products of other sizes sum in another order


# Rows do not depend on their company.


def alone(checkpoint: Checkpoint, ids: list[int], layer: int) -> torch.Tensor:
    """Rows that are streamed for these tokens and no others, nothing being kept."""
    return open_residuals(checkpoint, ["", " the red"]).rows(layer, torch.tensor(ids))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_row_is_the_same_alone_in_company_and_in_any_order(checkpoint, monkeypatch, threads, layer, n_threads):
    monkeypatch.setattr("maps_engine.checkpoints.blocks.residual_stream.BATCH", 64)  # two, one filled up
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    torch.set_num_threads(1)
    whole = open_residuals(checkpoint, ["", " the red"]).hold(layer)
    torch.set_num_threads(n_threads)
    shuffled = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3)).tolist()
    assert torch.equal(alone(checkpoint, shuffled, layer), whole[shuffled])
    assert torch.equal(alone(checkpoint, shuffled[:70], layer), whole[shuffled[:70]])
    for token in (0, 5, 63, 64, 103):
        assert torch.equal(alone(checkpoint, [token], layer), whole[token : token + 1])
    assert torch.equal(alone(checkpoint, [9, 9, 3, 9], layer), whole[[9, 9, 3, 9]])


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_do_not_depend_on_their_company_in_any_family(family, tmp_path, monkeypatch, threads):
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    checkpoint = open_checkpoint(str(tiny_model(family, tmp_path / "model")[0]), device="cpu")
    weights, lead_in = checkpoint.weights, (0, 3)
    found = []
    for ids, n_threads in ((range(ROWS), 1), ([77], 2), ([3, 77, 60], 1), (range(ROWS - 1, 60, -1), 2)):
        torch.set_num_threads(n_threads)
        stream = weights.residuals(torch.tensor(list(ids)), lead_in)
        stream.advance()
        stream.advance()
        found.append(stream.rows[list(ids).index(77)].clone())  # float32, as they come out of the last block
    if family == "mixtral":  # the company decides how many tokens an expert multiplies at once
        assert all(torch.allclose(one, found[0], rtol=1e-5, atol=1e-6) for one in found)
    else:
        assert all(torch.equal(one, found[0]) for one in found)


def test_rows_of_a_part_are_those_of_the_whole_vocabulary(checkpoint):
    part = torch.tensor([3, 4, 9, 50, 70])
    of_part, whole = open_residuals(checkpoint, [""], part=part), open_residuals(checkpoint, [""])
    assert of_part.kept.folder != whole.kept.folder
    for layer in (1, 0):
        held = of_part.hold(layer)
        assert held.shape == (5, 32)
        assert torch.equal(held, whole.hold(layer)[part])
        some = torch.tensor([70, 3, 3])
        assert torch.equal(of_part.rows(layer, some), whole.hold(layer)[some])
        others = torch.tensor([70, 71])  # of which one is not of the part
        assert torch.equal(of_part.rows(layer, others), whole.hold(layer)[others])
        assert torch.equal(of_part.rows(layer, slice(60, 80)), whole.hold(layer)[60:80])
    again = open_residuals(checkpoint, [""], part=part)
    assert again.kept.has(1)
    assert torch.equal(again.rows(1, part.flip(0)), whole.hold(1)[part.flip(0)])


def test_parts_of_one_size_are_kept_apart(checkpoint):
    first, second = (torch.tensor(ids) for ids in ([3, 4, 9], [3, 4, 10]))
    open_residuals(checkpoint, [""], part=first).hold(1)
    other = open_residuals(checkpoint, [""], part=second)
    assert not other.kept.has(1)
    assert torch.equal(other.hold(1), open_residuals(checkpoint, [""]).hold(1)[second])


# Ordinary words alone


@pytest.mark.parametrize("source", ["residual", "first-mlp", "embedding"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_ordinary_words_are_shown_and_in_the_order_of_all_tokens(checkpoint, source, precision):
    words = ordinary_words(checkpoint.vocabulary, 12)
    assert 4 < len(words) <= 12
    everything = EngineSettings(source, top=ROWS)
    engine = MapsEngine(checkpoint, replace(everything, top=5, words=12), precision)
    for layer in (0, 1):
        of_all = MapsEngine(checkpoint, everything, precision).map_head(layer, 2).rows
        expected = [row for row in of_all if row.token_id in words]
        for mapping in (engine.map_head(layer, 2), list(engine.map_heads([layer]))[2]):
            found = [*mapping.rows, *mapping.held_out_rows]
            assert len(mapping.rows) == 5
            assert [row.token_id for row in found] == [row.token_id for row in expected]
            for ours, theirs in zip(found, expected, strict=True):
                assert [one.token_id for one in ours.targets] == [one.token_id for one in theirs.targets]
                assert ours.salience == pytest.approx(theirs.salience, rel=1e-5)


def test_special_tokens_stay_left_out_among_words(checkpoint):
    settings = replace(RESIDUAL, words=ROWS, include_special=False)
    rows = MapsEngine(checkpoint, settings).map_head(1, 2, held_out=ROWS).rows
    assert {checkpoint.vocabulary.kind(row.token_id) for row in rows} == {"normal"}


def test_rows_and_pairs_of_other_tokens_do_not_depend_on_the_words(checkpoint):
    few, every = (MapsEngine(checkpoint, replace(RESIDUAL, words=words)) for words in (6, None))
    others = [i for i in range(ROWS) if i not in ordinary_words(checkpoint.vocabulary, 6)]
    assert few.at("residual").rows_of(1, 2, others) == every.at("residual").rows_of(1, 2, others)
    pairs = PairSet(tuple(range(1, 90)), tuple((i + 3,) for i in range(1, 90)), 10)
    ours, theirs = (engine.score_pairs([pairs], source="residual")[0] for engine in (few, every))
    assert torch.equal(ours.score, theirs.score)
    assert ours.score.max() > 0


def test_rows_of_many_heads_are_those_of_each(checkpoint):
    at = MapsEngine(checkpoint, RESIDUAL).at("residual")
    wanted = {(1, 2): [7, 3, 7], (0, 1): [5], (1, 0): [3, 90], (0, 3): []}
    found = at.rows_of_heads(wanted)
    assert found.keys() == wanted.keys()
    for (layer, head), ids in wanted.items():
        assert [row.token_id for row in found[layer, head]] == ids
        for ours, theirs in zip(found[layer, head], at.rows_of(layer, head, ids), strict=True):
            assert [one.token_id for one in ours.targets] == [one.token_id for one in theirs.targets]
            assert ours.salience == pytest.approx(theirs.salience, rel=1e-4)
    mapping = at.map_head(1, 2)
    again = at.rows_of_heads({(1, 2): [row.token_id for row in mapping.rows]})[1, 2]
    assert [row.salience for row in again] == pytest.approx([row.salience for row in mapping.rows], rel=1e-3)
    with pytest.raises(OutOfRange):
        at.rows_of_heads({(9, 0): [1]})


def test_rows_read_otherwise_stand_beside_the_same_tokens_under_the_truest_reading(checkpoint):
    engine = MapsEngine(checkpoint, EngineSettings(source="embedding", top=4))
    plain = list(engine.map_heads())
    for mapping, before in zip(engine.with_same_tokens(plain), plain, strict=True):
        assert replace(mapping, same_tokens=None) == before
        assert mapping.same_tokens.reading == "residual behind the start of texts"
        ids = [row.token_id for row in before.rows]
        expected = engine.at("residual").rows_of(mapping.layer, mapping.head, ids)
        assert [row.token_id for row in mapping.same_tokens.rows] == ids
        for ours, theirs in zip(mapping.same_tokens.rows, expected, strict=True):
            assert [one.token_id for one in ours.targets] == [one.token_id for one in theirs.targets]
    true = MapsEngine(checkpoint, RESIDUAL)
    assert true.with_same_tokens(mappings := list(true.map_heads())) == mappings


def test_it_is_told_how_many_blocks_were_passed(tmp_path, monkeypatch):
    checkpoint = open_checkpoint(str(tiny_model("llama", tmp_path / "model", num_hidden_layers=4)[0]), device="cpu")
    told: list[tuple[int, int]] = []
    engine = MapsEngine(checkpoint, replace(RESIDUAL, words=8), passed=lambda *count: told.append(count))
    engine.map_head(3, 0)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    list(engine.map_heads([2, 3]))
    MapsEngine(checkpoint, replace(RESIDUAL, words=8), passed=engine.passed).map_head(1, 0)
    assert len(told) == 4  # all of these layers were kept
    engine.at("residual").rows_of(1, 0, [ROWS - 1])  # a few tokens are not worth telling
    assert len(told) == 4
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "empty"))
    other = MapsEngine(checkpoint, replace(RESIDUAL, words=8))
    other.at("residual")
    other.passed = lambda done, wanted: told.append((done, wanted))  # may be set when the engine is there
    list(other.map_heads([1, 2]))
    assert told[4:] == [(0, 1), (1, 1), (1, 2), (2, 2)]  # each layer is asked for by itself


def kept(checkpoint: Checkpoint, lead_in: list[int] | None = None) -> KeptRows:
    """The rows of the table that `open_residuals` makes."""
    table = open_residuals(checkpoint, [""]) if lead_in is None else None
    if table is not None:
        return table.kept
    return KeptRows({"lead_in": lead_in}, n_layers=2, rows=ROWS, width=32)
