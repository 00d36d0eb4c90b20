"""Runs a transformers model on one-token sequences and records what its parts really received and gave."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

# family -> path of the blocks, attention's output layer in a block, MLP (or its two layers), norm the MLP reads
_LLAMA = ("model.layers", "self_attn.o_proj", "mlp", "post_attention_layernorm")
_GEMMA2 = ("model.layers", "self_attn.o_proj", "mlp", "pre_feedforward_layernorm")
_OLMO2 = ("model.layers", "self_attn.o_proj", "mlp", None)
_SHARED = ("model.layers", "self_attn.o_proj", "mlp", "input_layernorm")
_OPT = ("model.decoder.layers", "self_attn.out_proj", ("fc1", "activation_fn", "fc2"))
_FALCON = ("transformer.h", "self_attention.dense", "mlp")
PLACES: dict[str, tuple] = {
    "gpt2": ("transformer.h", "attn.c_proj", "mlp", "ln_2"),
    "gpt2-inner-width": ("transformer.h", "attn.c_proj", "mlp", "ln_2"),
    "gpt-neo": ("transformer.h", "attn.attention.out_proj", "mlp", "ln_2"),
    "gpt-j": ("transformer.h", "attn.out_proj", "mlp", "ln_1"),
    "gpt-neox": ("gpt_neox.layers", "attention.dense", "mlp", "post_attention_layernorm"),
    "gpt-neox-sequential": ("gpt_neox.layers", "attention.dense", "mlp", "post_attention_layernorm"),
    "gpt-neox-no-attention-bias": ("gpt_neox.layers", "attention.dense", "mlp", "post_attention_layernorm"),
    "opt": (*_OPT, "final_layer_norm"),
    "opt-350m": (*_OPT, "self_attn_layer_norm"),
    "opt-no-bias": (*_OPT, "final_layer_norm"),
    "bloom": ("transformer.h", "self_attention.dense", "mlp", "post_attention_layernorm"),
    "falcon-7b": (*_FALCON, "input_layernorm"),
    "falcon-rw": (*_FALCON, "post_attention_layernorm"),
    "falcon-40b": (*_FALCON, "ln_mlp"),
    "falcon-11b": (*_FALCON, "input_layernorm"),
    "phi": ("model.layers", "self_attn.dense", "mlp", "input_layernorm"),
    "phi-2-full-heads": ("model.layers", "self_attn.dense", "mlp", "input_layernorm"),
    "gemma2": _GEMMA2,
    "gemma3-text": _GEMMA2,
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "cohere": _SHARED,
    "cohere2": _SHARED,
    "stablelm-parallel": _SHARED,
}


@dataclass
class OneTokenRun:
    """Per layer: block input (V, d), attention's output layer input (V, H d_h) and output (V, d), attention weight."""

    block_input: list[Tensor] = field(default_factory=list)
    block_output: list[Tensor] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)
    attention_weight: list[Tensor] = field(default_factory=list)  # (V, H)


class Places:
    """Modules of a transformers model by role."""

    def __init__(self, family: str, model: nn.Module) -> None:
        blocks, output, self._mlp, self._norm = PLACES.get(family, _LLAMA)
        self.model = model
        self.blocks = list(model.get_submodule(blocks))
        self.outputs = [block.get_submodule(output) for block in self.blocks]

    def first_mlp(self, x: Tensor) -> Tensor:
        """The model's own first MLP on the norm it reads through."""
        block = self.blocks[0]
        y = x if self._norm is None else block.get_submodule(self._norm)(x)
        if isinstance(self._mlp, tuple):
            for name in self._mlp:
                y = block.get_submodule(name)(y)
            return y
        mlp = block.get_submodule(self._mlp)
        # BLOOM's MLP adds its residual itself
        return mlp(y, torch.zeros_like(y)) if type(mlp).__name__ == "BloomMLP" else mlp(y)

    def output_matrix(self, layer: int) -> Tensor:
        """(H d_h, d), whatever the layer's convention."""
        module = self.outputs[layer]
        return module.weight if type(module).__name__ == "Conv1D" else module.weight.T


def without_positions(model: nn.Module) -> None:
    """Zero learned position embeddings: the maps leave them out by definition."""
    for name, module in model.named_modules():
        if name.endswith(("wpe", "embed_positions")):
            module.weight.data.zero_()


def run_one_token(places: Places, n_tokens: int) -> OneTokenRun:
    """Every token id as a sequence of its own, in one batch."""
    run = OneTokenRun()

    def keep(target: list[Tensor], value: object) -> None:
        tensor = value[0] if isinstance(value, tuple) else value
        target.append(tensor.detach().reshape(n_tokens, -1))

    hooks = []
    for block, output in zip(places.blocks, places.outputs, strict=True):
        hooks += [
            block.register_forward_pre_hook(
                lambda _, args, kwargs: keep(run.block_input, args or kwargs["hidden_states"]), with_kwargs=True
            ),
            block.register_forward_hook(lambda _, __, result: keep(run.block_output, result)),
            output.register_forward_pre_hook(lambda _, args: keep(run.heads, args)),
            output.register_forward_hook(lambda _, __, result: keep(run.attention, result)),
        ]
    with torch.no_grad():
        result = places.model(torch.arange(n_tokens)[:, None], output_attentions=True, use_cache=False)
    run.attention_weight = [weight[:, :, 0, 0] for weight in result.attentions]
    for hook in hooks:
        hook.remove()
    return run
