"""The built-in model itself: forcing, agreement with the paper's finding, and what its heads are needed for."""

from __future__ import annotations

import pytest
import torch

from eval.faithfulness.ablation import ask
from eval.faithfulness.bench import Bench
from eval.faithfulness.correlation import PairLimits, correlation
from eval.faithfulness.final_logits.experiment import final_logits
from eval.faithfulness.running.few_shot import few_shots, questions
from eval.faithfulness.running.running_model import Ablation
from eval.faithfulness.running.templates import TEMPLATES
from eval.faithfulness.running.transformers_model import TransformersModel, open_running_model
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.relations.catalogue import load_relations
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench.open("smollm2-135m", tmp_path_factory.mktemp("results"), device="cpu")


@pytest.mark.model
def test_prompts_are_what_the_tokenizer_makes_of_the_text(bench):
    vocabulary = bench.checkpoint.vocabulary
    for template in TEMPLATES:
        for word in ("France", "lovely", "seven"):
            prompt = bench.maker.make(template, (vocabulary.single_id(word),))
            assert list(prompt.ids) == vocabulary.encode(template.replace("<X>", f" {word}"))


@pytest.mark.model
@pytest.mark.slow
def test_forcing_for_real_gives_the_values_of_the_clean_run(bench):
    model = bench.model
    assert isinstance(model, TransformersModel)
    prompt = bench.maker.make(TEMPLATES[3], (bench.checkpoint.vocabulary.single_id("France"),))
    ids = torch.tensor([prompt.ids])
    values = model.head_states(ids, prompt.source).values
    for layer in (0, 13, 29):
        forced = model.forced_heads(ids, prompt.source, layer)
        torch.testing.assert_close(forced, values[layer].repeat_interleave(3, dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.model
@pytest.mark.slow
def test_scores_from_weights_agree_with_inference(bench):
    relations = load_relations(["adjective-to-comparative"])
    table = correlation(bench, relations, PairLimits(max_pairs=30))
    assert table.rows[0].without_context.r > 0.75
    assert table.rows[0].with_context.r > 0.6
    assert table.rows[0].without_context.p < 1e-20


@pytest.mark.model
@pytest.mark.slow
def test_the_model_can_be_asked_and_its_heads_removed(bench):
    (relation,) = load_relations(["country-to-nationality"])
    asked = questions(few_shots()[relation.name], relation, bench.checkpoint.vocabulary, bench.maker, max_pairs=20)
    everything = Ablation({layer: range(9) for layer in range(30)})
    base, none = ask(bench.model, asked, [Ablation(), everything], batch=32)
    assert base.mean() > 0.6
    assert none.mean() < 0.2


@pytest.mark.model
@pytest.mark.slow
def test_heads_of_an_operation_move_the_final_logits_more_than_random_ones(bench):
    table = final_logits(bench, load_relations(["country-to-capital"]), PairLimits(max_pairs=12), heads=3)
    (row,) = table.rows
    own, random = row["choices"]["residual"], row["choices"]["random"]
    assert own["z_above"] > random["z_above"] + 2
    assert own["hit_above"] > random["hit_above"] + 0.3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt-neox", "gemma2"])
def test_a_gpu_gives_the_states_of_the_processor(family, dtype, tmp_path):
    folder, _ = tiny_model(family, tmp_path)
    ids = torch.randint(1, 90, (5, 7), generator=torch.Generator().manual_seed(1))
    there = open_running_model(open_checkpoint(str(folder), device="cuda"), dtype=dtype).head_states(ids, 4)
    here = open_running_model(open_checkpoint(str(folder), device="cpu"), dtype=dtype).head_states(ids, 4)
    bound = 1e-4 if dtype == "float32" else 0.05
    for ours, theirs in ((there.mixed.cpu(), here.mixed), (there.values.cpu(), here.values)):
        assert float((ours - theirs).norm() / theirs.norm()) < bound
