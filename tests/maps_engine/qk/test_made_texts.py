"""Attention in made-up texts against the model's own, where the two are the same thing, and known heads."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint, UnsupportedModel, UserMistake
from maps_engine.model import Checkpoint, ModelWeights, QueriesKeys
from maps_engine.ordinary_words import ordinary_words
from maps_engine.qk import made_texts, readings
from maps_engine.qk.made_texts import LENGTH, _Layer, _Texts, attention
from maps_engine.qk.readings import LEAD_IN, read_attention, read_behind
from tests.support.agent.queue_models import wordy_model
from tests.support.tiny_models import tiny_model

ROTARY = ("llama", "gpt-neox", "gpt-j", "gemma2", "qwen3", "phi", "olmo2", "cohere", "gpt-oss", "bloom", "falcon-rw")


def own_attention(model: nn.Module, ids: Tensor, layer: int) -> Tensor:
    return model(input_ids=ids, output_attentions=True).attentions[layer]


@pytest.mark.parametrize("family", [one for one in ROTARY if one != "falcon-rw"])
def test_in_layer_0_a_made_text_is_the_text(family: str, tmp_path) -> None:
    """There no word knows of another yet, so that the model's own attention is what is read."""
    folder, model = tiny_model(family, tmp_path / "model")
    weights = open_checkpoint(str(folder)).weights
    words, texts = torch.arange(20, 50), torch.randint(0, 30, (2, 11), generator=torch.Generator().manual_seed(3))
    stream = weights.residuals(words, (0,))
    made = _Layer(weights, 0, stream.rows, stream.start, torch.zeros(31, weights.shape.d_model))._attention(texts)
    ids = torch.cat([torch.zeros(2, 1, dtype=torch.long), words[texts]], dim=1)
    wanted = own_attention(model, ids, 0)
    assert torch.allclose(made, wanted, atol=1e-4)


def test_what_previous_token_heads_move_is_what_the_head_writes(tmp_path) -> None:
    """A share of 1 for one head gives what that head adds to the stream where it looks at one word alone."""
    folder, model = tiny_model("llama", tmp_path / "model")
    weights = open_checkpoint(str(folder)).weights
    words = torch.arange(20, 50)
    stream = weights.residuals(words, (0,))
    layer = _Layer(weights, 0, stream.rows, stream.start, torch.zeros(31, weights.shape.d_model))
    attention = model.model.layers[0].self_attn
    normed = model.model.layers[0].input_layernorm(model.model.embed_tokens(words))
    values = attention.v_proj(normed).view(30, 2, 8)
    for head in range(4):
        wanted = values[:, head // 2] @ attention.o_proj.weight[:, 8 * head : 8 * head + 8].T
        assert torch.allclose(layer.written(torch.eye(4)[head])[:-1], wanted, atol=1e-5)


@pytest.fixture(scope="module")
def wordy(tmp_path_factory) -> Checkpoint:
    return open_checkpoint(str(wordy_model(tmp_path_factory.mktemp("model") / "tiny")))


def test_readings_are_shares_and_the_same_every_time(wordy: Checkpoint) -> None:
    first, second = (list(chain.from_iterable(read_attention(wordy))) for _ in range(2))
    assert first == second
    shape = wordy.weights.shape
    assert [(one.layer, one.head) for one in first] == [
        (layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)
    ]
    for one in first:
        assert len(one.profile) == LENGTH - len(read_behind(wordy))
        assert one.profile[:2] == (one.itself, one.previous)
        assert 0 <= one.reach < LENGTH
        assert all(0 <= share <= 1 for share in (one.first, one.duplicate, one.induction, *one.profile))
    assert list(read_attention(wordy, last=0)) == [tuple(one for one in first if one.layer == 0)]


def test_a_text_repeats_itself_after_its_half() -> None:
    texts = _Texts.drawn(made_texts.WORDS, 1)
    n = (LENGTH - 1) // 2
    assert torch.equal(texts.repeated[:, :n], texts.repeated[:, n:])
    assert all(len(set(text.tolist())) == n for text in texts.repeated[:, :n])
    assert texts.plain.float().mean() < texts.repeated.float().mean()  # frequent words are drawn more often


@pytest.mark.parametrize("family", ["gpt2", "opt", "gpt-neo"])
def test_places_that_are_learned_are_refused(family: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(readings, "LENGTH", 8)
    folder, _ = tiny_model(family, tmp_path / "model")
    with pytest.raises(UnsupportedModel, match="a vector for each place"):
        next(read_attention(open_checkpoint(str(folder))))


def test_a_vocabulary_of_few_words_is_refused(tmp_path) -> None:
    with pytest.raises(UserMistake, match="too few whole words"):
        next(read_attention(open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0]))))


def test_words_are_read_behind_the_start_and_the_same_words(wordy: Checkpoint) -> None:
    before = read_behind(wordy)
    start = wordy.vocabulary.start
    assert before == read_behind(wordy)
    assert before[: len(start)] == start
    assert len(before) == len(start) + LEAD_IN
    assert set(before[len(start) :]) <= set(ordinary_words(wordy.vocabulary))


@pytest.mark.model
def test_known_heads_of_the_default_model() -> None:
    """Previous-token and induction heads, as attention in the running model shows them."""
    heads = {(one.layer, one.head): one for one in chain.from_iterable(read_attention(open_checkpoint("smollm2-135m")))}
    previous = sorted(heads, key=lambda place: -heads[place].previous)
    assert {(11, 1), (2, 1), (1, 2), (16, 0)} <= set(previous[:8])
    induction = sorted(heads, key=lambda place: -heads[place].induction)
    assert {(18, 6), (17, 3), (17, 4), (17, 5)} <= set(induction[:6])
    assert heads[18, 8].first > 0.8


def test_the_profile_leaves_out_the_start_where_many_heads_rest() -> None:
    """A head that pays 0.9 to the first token, and the rest to the token before, has no attention far back."""
    n, s = LENGTH, 2
    queries, keys = torch.zeros(1, 1, n, n), torch.eye(n)[None, None]
    places = torch.arange(1, n)
    queries[..., places, 0] = 20 + torch.log(torch.tensor(9.0))
    queries[..., places, places - 1] += torch.where(places > 1, 20.0, 0.0)

    class Planted:
        shape = SimpleNamespace(n_heads=1)

        def queries_keys(self, layer: int, hidden: torch.Tensor) -> QueriesKeys:
            return QueriesKeys(queries.expand(len(hidden), -1, -1, -1), keys.expand(len(hidden), -1, -1, -1), 1.0)

    texts = _Texts.drawn(100, s)
    read = _Layer(cast("ModelWeights", Planted()), 0, torch.zeros(100, 4), torch.zeros(s, 4), torch.zeros(101, 4))
    (head,) = read.heads(texts)
    assert head.first == pytest.approx(0.9, abs=1e-4)
    assert head.previous == pytest.approx(0.1, abs=1e-4)
    assert sum(head.profile) == pytest.approx(0.1, abs=1e-3)
    assert head.reach == pytest.approx(1.0, abs=0.01)


def test_weights_that_are_not_finite_are_a_broken_checkpoint() -> None:
    ones = torch.ones(1, 2, 3, 4)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(BrokenCheckpoint, match="not finite"):
            attention(QueriesKeys(ones * bad, ones, 1.0))
    sinks = attention(QueriesKeys(ones, ones, 1.0, sinks=torch.zeros(2)))
    assert sinks.shape == (1, 2, 3, 3)
    assert float(sinks[0, 0, 0, 0]) == pytest.approx(torch.tensor(4.0).sigmoid().item())
