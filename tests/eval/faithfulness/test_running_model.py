"""Every family as a running model: heads, forcing, ablation and hooks, on tiny random checkpoints."""

from __future__ import annotations

import copy

import pytest
import torch

from eval.errors import AttentionOutOfReach
from eval.faithfulness.running.running_model import Ablation
from eval.faithfulness.running.transformers_model import TransformersModel, hooked, open_running_model
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.errors import Failure, UserMistake
from maps_engine.model import Checkpoint
from maps_engine.results import EngineSettings
from tests.support.forward_pass import without_positions
from tests.support.tiny_models import FAMILIES, ROWS, tiny_model

_opened: dict[str, tuple[Checkpoint, TransformersModel]] = {}
LAYERS = 2


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def opened(family, tmp_path_factory) -> tuple[Checkpoint, TransformersModel]:
    """One checkpoint a family, opened by both sides."""
    if family not in _opened:
        folder, _ = tiny_model(family, tmp_path_factory.mktemp(family))
        checkpoint = open_checkpoint(str(folder), device="cpu")
        _opened[family] = (checkpoint, open_running_model(checkpoint))
    return _opened[family]


def prompts(n: int = 5, length: int = 7, shared: int = 3) -> torch.Tensor:
    ids = torch.randint(1, 90, (n, length), generator=torch.Generator().manual_seed(1))
    ids[:, :shared] = ids[:1, :shared]
    return ids


def every_head(model: TransformersModel) -> Ablation:
    return Ablation({layer: range(model.shape.n_heads) for layer in range(LAYERS)})


def seen(model: TransformersModel, ids: torch.Tensor, hooks: list) -> list[torch.Tensor]:
    """What the attention's output projections give in a pass under `hooks`."""
    found: list[torch.Tensor] = []
    watch = [(m, lambda _, __, out: found.append(out.detach().clone()), "post") for m in model.outputs]
    with torch.no_grad(), hooked([*hooks, *watch]):
        model.model.base_model(ids, use_cache=False)
    return found


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 1e-3, "nothing to compare"
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


def test_heads_and_bias_sum_to_the_attention(opened):
    checkpoint, model = opened
    ids = prompts()
    states, given = model.head_states(ids, 4), seen(model, ids, [])
    for layer in range(LAYERS):
        output = checkpoint.weights.attention(layer).output
        whole = torch.einsum("nhk,hkd->nd", states.mixed[layer], output)
        bias = checkpoint.weights.output_bias(layer)
        close(whole if bias is None else whole + bias, given[layer].reshape(len(ids), ids.shape[1], -1)[:, -1])


def test_a_shared_beginning_changes_nothing(opened):
    _, model = opened
    ids = prompts()
    together = model.head_states(ids, 4)
    alone = [model.head_states(row[None], 4) for row in ids]
    close(together.mixed, torch.cat([one.mixed for one in alone], 1))
    close(together.values, torch.cat([one.values for one in alone], 1))


@pytest.mark.parametrize("source", [4, 6])
def test_values_of_the_clean_run_are_what_forced_attention_gives(opened, family, source):
    """Really forced, layer by layer, with the source before the last position and at it."""
    _, model = opened
    ids, group = prompts(), model.shape.n_heads // model.shape.n_value_heads
    without_sinks(model, family)
    values = model.head_states(ids, source).values
    for layer in range(LAYERS):
        close(model.forced_heads(ids, source, layer), values[layer].repeat_interleave(group, dim=1))


def without_sinks(model: TransformersModel, family: str) -> None:
    """GPT-OSS keeps some attention for a sink even when one token is left; forcing to 1 means without it."""
    if family == "gpt-oss":
        for attention in model.attentions:
            attention.sinks.data.fill_(-1e4)


def test_forced_attention_equals_the_engines_map(family, tmp_path):
    """One token and nothing else: what a head of layer 0 gives is the engine's row, norms and biases folded."""
    folder, _ = tiny_model(family, tmp_path)
    checkpoint = open_checkpoint(str(folder), device="cpu")
    model = open_running_model(checkpoint)
    without_positions(model.model)
    ids = torch.arange(ROWS)
    engine = MapsEngine(checkpoint, EngineSettings("embedding", fold_biases=True))
    states = model.head_states(ids[:, None], 0)
    circuit = engine.at("embedding").circuit(0)
    output = checkpoint.weights.attention(0).output
    for head in range(model.shape.n_heads):
        theirs = states.values[0][:, model.shape.value_head_of(head)] @ output[head]
        ours = circuit.heads.read(circuit.table.rows(0, ids), head) @ output[head]
        close(ours, theirs)
        if family != "gpt-oss":  # attention is 1 by itself on a single token
            close(states.mixed[0][:, head] @ output[head], theirs)


def test_forced_attention_equals_the_engines_map_of_the_residual_stream(family, tmp_path):
    """Behind the start of texts, in every layer; the engine's rows are rounded to float16."""
    checkpoint = open_checkpoint(str(tiny_model(family, tmp_path)[0]), device="cpu")
    model = open_running_model(checkpoint)
    texts = torch.tensor([[*checkpoint.vocabulary.start, token] for token in range(ROWS)])
    engine = MapsEngine(checkpoint, EngineSettings("residual"))
    states = model.head_states(texts, texts.shape[1] - 1)
    for layer in range(1 if family == "falcon-rw" else LAYERS):  # eager Falcon adds ALiBi twice
        circuit = engine.at("residual").circuit(layer)
        output = checkpoint.weights.attention(layer).output
        for head in range(model.shape.n_heads):
            theirs = states.values[layer][:, model.shape.value_head_of(head)] @ output[head]
            ours = circuit.heads.read(circuit.table.rows(layer, torch.arange(ROWS)), head) @ output[head]
            close(ours, theirs, 2e-3)


def test_no_heads_left_leaves_the_bias_alone(opened):
    checkpoint, model = opened
    ids = prompts()
    given = seen(model, ids, model._replacing(every_head(model)))
    clean = seen(model, ids, [])
    for layer in range(LAYERS):
        bias = checkpoint.weights.output_bias(layer)
        last = given[layer].reshape(len(ids), ids.shape[1], -1)[:, -1]
        torch.testing.assert_close(last, torch.zeros_like(last) if bias is None else bias.expand_as(last))
    before = [x.reshape(len(ids), ids.shape[1], -1)[:, :-1] for x in (given[0], clean[0])]
    torch.testing.assert_close(*before)


def test_predictions_equal_full_passes_under_the_same_hooks(opened):
    _, model = opened
    ids = prompts()
    means = torch.randn(LAYERS, model.shape.n_heads, model.shape.d_head, generator=torch.Generator().manual_seed(2))
    ablations = [Ablation(), Ablation({0: [0], 1: [1, 3]}), every_head(model), Ablation({1: [2]}, means)]
    ours = model.predictions(ids, ablations)
    for row, ablation in zip(ours, ablations, strict=True):
        with torch.no_grad(), hooked(model._replacing(ablation)):
            logits = model.model(ids, use_cache=False).logits[:, -1]
        assert row.tolist() == logits.argmax(-1).tolist()


def test_logits_after_equal_full_passes_with_the_same_addition(opened):
    """Without a cache, each prompt by itself, the addition made by a plain hook on the projection."""
    _, model = opened
    ids = prompts()[0]
    added = torch.randn(3, model.shape.d_model, generator=torch.Generator().manual_seed(3))
    for layer in range(LAYERS):
        ours = model.logits_after(ids, layer, added)
        for row, one in zip(ours, added, strict=True):

            def put(_, __, out, one=one):
                flat = out.reshape(-1, out.shape[-1]).clone()
                flat[-1] += one
                return flat.view(out.shape)

            with torch.no_grad(), hooked([(model.outputs[layer], put, "post")]):
                whole = model.model(ids[None], use_cache=False).logits[0, -1]
            close(row, whole)
            assert not torch.allclose(row, model.logits_after(ids, layer, torch.zeros_like(added))[0])


@pytest.mark.parametrize("length", [1, 7])
def test_nothing_added_changes_no_logits(opened, length):
    _, model = opened
    ids = prompts()[0, :length]
    with torch.no_grad():
        clean = model.model(ids[None], use_cache=False).logits[0, -1]
    ours = model.logits_after(ids, 1, torch.zeros(2, model.shape.d_model))
    assert ours.dtype == torch.float32
    for row in ours:
        close(row, clean)


def test_the_order_of_ablations_does_not_matter(opened):
    _, model = opened
    one, other = Ablation({0: [1]}), every_head(model)
    forth, back = model.predictions(prompts(), [one, other]), model.predictions(prompts(), [other, one])
    assert torch.equal(forth, back.flip(0))


def test_the_model_is_as_before_after_every_kind_of_run(opened, family):
    _, model = opened
    without_sinks(model, family)
    ids = prompts()
    with torch.no_grad():
        before = model.model(ids, use_cache=False).logits
    model.head_states(ids, 4)
    model.predictions(ids, [every_head(model)])
    model.forced_heads(ids, 4, 1)
    model.logits_after(ids[0], 0, torch.ones(2, model.shape.d_model))
    with pytest.raises(IndexError):
        model.predictions(ids, [Ablation({0: [99]})])
    with pytest.raises(RuntimeError):
        model.logits_after(ids[0], 0, torch.ones(2, model.shape.d_model + 1))
    with pytest.raises((IndexError, RuntimeError)):
        model.head_states(torch.full((2, 4), 10**6), 1)
    with torch.no_grad():
        assert torch.equal(before, model.model(ids, use_cache=False).logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


def test_prompts_of_one_token_can_be_asked(opened):
    _, model = opened
    ids = torch.tensor([[5], [9], [30]])
    with torch.no_grad():
        expected = model.model(ids, use_cache=False).logits[:, -1].argmax(-1)
    assert model.predictions(ids, [Ablation()])[0].tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt-neox", "gemma2"])
def test_half_precision_gives_nearly_the_same_states(kind, dtype, tmp_path):
    folder, _ = tiny_model(kind, tmp_path)
    checkpoint = open_checkpoint(str(folder), device="cpu")
    exact = open_running_model(checkpoint).head_states(prompts(), 4)
    rough = open_running_model(checkpoint, dtype=dtype).head_states(prompts(), 4)
    assert rough.mixed.dtype == torch.float32
    for ours, theirs in ((rough.mixed, exact.mixed), (rough.values, exact.values)):
        assert float((ours - theirs).norm() / theirs.norm()) < 0.05


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_other_attention_gives_states_but_refuses_forcing(kind, tmp_path):
    folder, _ = tiny_model(kind, tmp_path)
    checkpoint = open_checkpoint(str(folder), device="cpu")
    model = open_running_model(checkpoint, attention="sdpa")
    eager = open_running_model(checkpoint).head_states(prompts(), 4)
    close(model.head_states(prompts(), 4).mixed, eager.mixed)
    with pytest.raises(AttentionOutOfReach, match="--attention eager"):
        model.forced_heads(prompts(), 4, 0)


def test_a_model_without_the_modules_is_refused(tmp_path):
    folder, model = tiny_model("llama", tmp_path)
    checkpoint = open_checkpoint(str(folder), device="cpu")
    broken = copy.deepcopy(model)
    del broken.model.layers[1].self_attn.o_proj
    with pytest.raises(AttentionOutOfReach, match=r"no module layers\.0\.self_attn\.o_proj"):
        TransformersModel(broken, checkpoint.weights.shape, "llama")


def test_a_projection_that_is_never_called_is_refused(tmp_path):
    folder, model = tiny_model("llama", tmp_path)
    shape = open_checkpoint(str(folder), device="cpu").weights.shape
    running = TransformersModel(model, shape, "llama")
    running.outputs[1] = torch.nn.Linear(2, 2)  # stands for a kernel that goes round the module
    with pytest.raises(AttentionOutOfReach, match="1 of 2 layers"):
        running.head_states(prompts(), 4)
    with pytest.raises(AttentionOutOfReach, match="0 of 1 layers"):
        running.logits_after(prompts()[0], 1, torch.zeros(1, shape.d_model))


@pytest.mark.parametrize(("options", "word"), [({"dtype": "int8"}, "dtype"), ({"attention": "flash"}, "attention")])
def test_unknown_words_are_refused(options, word, tmp_path):
    folder, _ = tiny_model("llama", tmp_path)
    with pytest.raises(UserMistake, match=f"unknown {word}"):
        open_running_model(open_checkpoint(str(folder), device="cpu"), **options)


def test_a_checkpoint_that_transformers_cannot_open_is_one_line(tmp_path):
    folder, _ = tiny_model("llama", tmp_path)
    checkpoint = open_checkpoint(str(folder), device="cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(Failure, match="could not open"):
        open_running_model(checkpoint)
