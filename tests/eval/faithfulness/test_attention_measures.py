"""Ranks over keys, and measures of a text, against the plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from eval.errors import AttentionOutOfReach
from eval.faithfulness.attention.keys import nearness, rho, unit_ranks
from eval.faithfulness.attention.measured import EARLIEST, EVERY, Predicted, repeat_means, text_means
from eval.faithfulness.attention.texts import (
    LENGTH,
    REPEATED,
    REPEATS,
    cut,
    repeated_tokens,
)
from maps_engine.null_heads import null_checkpoint
from maps_engine.qk.content import content
from maps_engine.qk.readings import read_behind
from tests.support.eval.faithfulness_models import tiny_bench
from tests.support.eval.made_texts import some_texts
from tests.support.eval.named_runs import wordy_bench

ROTARY = ("llama", "gemma2", "qwen3", "olmo2", "gpt-oss", "bloom")


def test_rho_is_scipy_s_among_the_keys_that_are_seen() -> None:
    chance = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 6, (2, 3, 5, 20), generator=chance).float() for _ in range(2))  # with ties
    seen = torch.rand(2, 3, 5, 20, generator=chance) > 0.3
    found = rho(unit_ranks(first, seen), unit_ranks(second, seen))
    for place in np.ndindex(2, 3, 5):
        wanted = stats.spearmanr(first[place][seen[place]], second[place][seen[place]]).statistic
        assert float(found[place]) == pytest.approx(wanted, abs=1e-5)


def test_keys_that_are_all_alike_count_as_nothing() -> None:
    seen = torch.ones(1, 4, dtype=torch.bool)
    assert float(rho(unit_ranks(torch.zeros(1, 4), seen), unit_ranks(torch.arange(4.0)[None], seen))) == 0.0
    assert float(rho(unit_ranks(torch.ones(1, 4), ~seen), nearness(~seen))) == 0.0


def test_nearer_keys_rank_higher() -> None:
    seen = torch.ones(6, 6).tril().bool()
    seen[4, 1] = False
    assert torch.allclose(nearness(seen), unit_ranks(torch.arange(6.0).expand(6, 6), seen))


def naive_rho(first: Tensor, second: Tensor) -> float:
    return float(stats.spearmanr(first.double().numpy(), second.double().numpy()).statistic)


def test_measures_of_a_text_are_those_of_the_plain_computation(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    weights, start, layer = bench.checkpoint.weights, bench.checkpoint.vocabulary.start, 1
    (pieces,) = cut(some_texts(bench.checkpoint)[:1], bench.checkpoint.vocabulary, 2 * LENGTH)
    before = read_behind(bench.checkpoint)
    found = text_means(bench.model, Predicted(weights, None, start, before), pieces.ids)
    real = bench.model.model(input_ids=pieces.ids, output_attentions=True).attentions[layer]
    stream, texts = weights.residuals(pieces.ids.flatten(), before), weights.texts(pieces.ids, start=1, sees=1)
    stream.advance()
    texts.advance()
    s = len(start)
    said = content(weights, layer, stream.rows)
    for head in range(weights.shape.n_heads):
        rhos: dict[str, list[float]] = {"placed": [], "content": [], "near": []}
        for text in range(len(pieces.ids)):
            logits = weights.queries_keys(layer, texts.rows[text, None]).logits()[0, head]
            queries, keys = (one[head].view(*pieces.ids.shape, -1)[text] for one in (said.queries, said.keys))
            for query in range(EARLIEST, LENGTH, EVERY):
                seen = slice(s, query + 1)
                wanted = real[text, head, query, seen]
                rhos["placed"].append(naive_rho(logits[query, seen], wanted))
                rhos["content"].append(naive_rho(keys[seen] @ queries[query], wanted))
                rhos["near"].append(naive_rho(torch.arange(s, query + 1), wanted))
        for name, each in rhos.items():
            assert float(found[name][layer, head]) == pytest.approx(np.mean(each), abs=2e-3), name
    later = range(EARLIEST, LENGTH)
    for name, column in {"previous": -1, "self": 0}.items():
        wanted = np.mean([float(real[:, 2, i, i + column].mean()) for i in later])
        assert float(found[name][layer, 2]) == pytest.approx(wanted, abs=1e-5)
    assert float(found["first"][layer, 2]) == pytest.approx(float(real[:, 2, EARLIEST:, 0].mean()), abs=1e-5)


def test_measures_of_tokens_that_repeat_are_those_of_the_plain_computation(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    ids = repeated_tokens(bench.checkpoint.vocabulary)
    s = len(bench.checkpoint.vocabulary.start)
    assert ids.shape == (REPEATS, s + 2 * REPEATED)
    assert torch.equal(ids[:, s : s + REPEATED], ids[:, s + REPEATED :])
    assert all(len(set(one.tolist())) == REPEATED for one in ids[:, s : s + REPEATED])
    found = repeat_means(bench.model, ids[:3])
    real = bench.model.model(input_ids=ids[:3], output_attentions=True).attentions
    for name, behind in {"duplicate": REPEATED, "induction": REPEATED - 1}.items():
        seconds = range(s + REPEATED + 1, s + 2 * REPEATED)
        wanted = np.mean([float(real[1][:, 3, i, i - behind].mean()) for i in seconds])
        assert float(found[name][1, 3]) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("family", ROTARY)
def test_where_no_word_knows_of_another_the_order_of_keys_is_the_model_s(family: str, tmp_path) -> None:
    """That is so in layer 0: windows, caps, sinks and slopes are then the only things to get wrong."""
    bench = tiny_bench(tmp_path, family)
    weights = bench.checkpoint.weights
    ids = torch.randint(20, 90, (3, LENGTH), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = 0
    null = null_checkpoint(bench.checkpoint, seed=1).weights
    found = text_means(bench.model, Predicted(weights, null, (0,), (0, 3)), ids)
    assert {one.shape for one in found.values()} == {(weights.shape.n_layers, weights.shape.n_heads)}
    assert float(found["placed"][0].min()) > 0.995
    assert float(found["null placed"][0].max()) < 0.98
    assert all(bool((one.abs() <= 1).all()) for one in found.values())


def test_attention_is_read_where_it_is_computed_in_the_open(tmp_path) -> None:
    bench = tiny_bench(tmp_path, attention="sdpa")
    with pytest.raises(AttentionOutOfReach, match="can only be read where it is computed in the open"):
        bench.model.attention_weights(torch.tensor([[0, 1, 2]]))
