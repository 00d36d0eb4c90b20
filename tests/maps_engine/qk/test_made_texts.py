"""Attention in made-up texts against the model's own, where the two are the same thing, and known heads."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint, UserMistake
from maps_engine.model import Checkpoint, QueriesKeys
from maps_engine.ordinary_words import ordinary_words
from maps_engine.qk import made_texts
from maps_engine.qk.made_texts import LENGTH, MadeTexts, MadeUp, attention, by_place
from maps_engine.qk.readings import LEAD_IN, read_attention, read_behind
from tests.support.agent.queue_models import wordy_model
from tests.support.tiny_models import tiny_model

FAMILIES = ("llama", "gpt-neox", "gemma2", "qwen3", "phi", "olmo2", "cohere", "gpt-oss", "bloom")
AT_PLACES = {  # families that keep a table of places
    "gpt2": "n_positions",
    "gpt-j": "n_positions",
    "opt": "max_position_embeddings",
    "gpt-neo": "max_position_embeddings",
}
WORDS = range(20, 80)


@pytest.mark.parametrize("family", [*FAMILIES, *AT_PLACES])
def test_texts_that_repeat_themselves_are_read_as_the_model_reads_them(family: str, tmp_path) -> None:
    """In every layer; in plain ones words see less, but for layer 0, where no word knows of another yet."""
    places = {AT_PLACES[family]: LENGTH} if family in AT_PLACES else {}
    folder, model = tiny_model(family, tmp_path / "model", **places)
    weights = open_checkpoint(str(folder)).weights
    made, texts = MadeUp.of(WORDS, (0,), torch.device("cpu")), MadeTexts(weights, WORDS, (0,))
    plain, repeated = (model(input_ids=ids, output_attentions=True).attentions for ids in (made.plain, made.repeated))
    for layer in range(weights.shape.n_layers):
        if layer:
            texts.advance()
        wanted = list(by_place(layer, plain[layer], repeated[layer], 1))
        for ours, theirs in zip(texts.heads(), wanted, strict=True):
            fields = ("duplicate", "induction") if layer else ("duplicate", "induction", "first", "profile")
            for field in fields:
                assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=1e-5)


def test_words_of_plain_texts_see_one_word_before_them(tmp_path) -> None:
    weights = open_checkpoint(str(tiny_model("llama", tmp_path / "model")[0])).weights
    made, texts = MadeUp.of(WORDS, (0,), torch.device("cpu")), MadeTexts(weights, WORDS, (0,))
    stream = weights.texts(made.plain, start=1, sees=1)
    for _ in range(weights.shape.n_layers - 1):
        texts.advance()
        stream.advance()
    seen = attention(weights.queries_keys(stream.layer, stream.rows))
    wanted = list(by_place(stream.layer, seen, torch.zeros_like(seen), 1))
    assert [one.profile for one in texts.heads()] == [one.profile for one in wanted]


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
        assert len(one.profile) == LENGTH - len(wordy.vocabulary.start)
        assert one.profile[:2] == (one.itself, one.previous)
        assert 0 <= one.reach < LENGTH
        assert all(0 <= share <= 1 for share in (one.first, one.duplicate, one.induction, *one.profile))
    assert list(read_attention(wordy, last=0)) == [tuple(one for one in first if one.layer == 0)]


@pytest.mark.parametrize("family", AT_PLACES)
def test_models_with_a_table_of_places_are_read(family: str, tmp_path) -> None:
    settings = {AT_PLACES[family]: LENGTH}
    checkpoint = open_checkpoint(str(wordy_model(tmp_path / "model", family, **settings)))
    heads = list(chain.from_iterable(read_attention(checkpoint)))
    assert len(heads) == checkpoint.weights.shape.n_layers * checkpoint.weights.shape.n_heads
    for one in heads:
        assert all(0 <= share <= 1 for share in (one.first, one.duplicate, one.induction, *one.profile))
        assert len(one.attends) > 0


@pytest.mark.parametrize("start", [(7,), (7, 5)])
def test_a_text_repeats_itself_after_its_half(start: tuple[int, ...]) -> None:
    s, n = len(start), (LENGTH - len(start)) // 2
    made = MadeUp.of(range(100, 100 + made_texts.WORDS), start, torch.device("cpu"))
    assert made.plain.shape == (made_texts.TEXTS, LENGTH)
    assert made.repeated.shape == (made_texts.TEXTS, s + 2 * n)
    for texts in (made.plain, made.repeated):
        assert torch.equal(texts[:, :s], torch.tensor([start] * made_texts.TEXTS))
    assert torch.equal(made.repeated[:, s : s + n], made.repeated[:, s + n :])
    assert all(len(set(text.tolist())) == n for text in made.repeated[:, s : s + n])
    assert made.plain.float().mean() < made.repeated.float().mean()  # frequent words are drawn more often


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
    seen, places = torch.zeros(1, 1, LENGTH, LENGTH), torch.arange(2, LENGTH)
    seen[..., 0] = 0.9
    seen[..., places, places - 1] = 0.1
    (head,) = by_place(0, seen, seen, 2)
    assert head.first == pytest.approx(0.9)
    assert head.previous == pytest.approx(0.1)
    assert sum(head.profile) == pytest.approx(0.1)
    assert head.reach == pytest.approx(1.0)


def test_weights_that_are_not_finite_are_a_broken_checkpoint() -> None:
    ones = torch.ones(1, 2, 3, 4)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(BrokenCheckpoint, match="not finite"):
            attention(QueriesKeys(ones * bad, ones, 1.0))
    sinks = attention(QueriesKeys(ones, ones, 1.0, sinks=torch.zeros(2)))
    assert sinks.shape == (1, 2, 3, 3)
    assert float(sinks[0, 0, 0, 0]) == pytest.approx(torch.tensor(4.0).sigmoid().item())
