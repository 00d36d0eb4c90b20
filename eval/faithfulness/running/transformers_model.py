"""`RunningModel` by transformers' modules and hooks; no other module knows transformers' running models.

The engine's record of the family says where value and output projections are: modules have the names of the
checkpoint's tensors. Prompts of one template share their beginning, and a change at the last position affects no other
position. So the shared beginning runs once, and an ablation or an addition costs the pass of one token over the cached
rest.
`forced_heads` really forces attention, layer by layer; a test compares it with v_s of the clean run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from eval.errors import AttentionOutOfReach
from eval.faithfulness.running.running_model import Ablation, HeadStates
from maps_engine.checkpoints.families.record import Family
from maps_engine.checkpoints.families.registry import FAMILIES
from maps_engine.checkpoints.locate import locate
from maps_engine.errors import Failure, UnsupportedModel, UserMistake
from maps_engine.model import Checkpoint, ModelShape

Hook = Callable[..., Any]
Attention = Literal["eager", "sdpa"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def open_running_model(
    checkpoint: Checkpoint,
    *,
    dtype: str = "float32",
    attention: str = "eager",
    revision: str | None = None,
) -> TransformersModel:
    """The opened checkpoint as a model that runs, on the checkpoint's device.

    Raises UserMistake (dtype, attention), UnsupportedModel, AttentionOutOfReach, Failure.
    """
    if dtype not in DTYPES:
        raise UserMistake("unknown dtype", got=dtype, expected=", ".join(DTYPES))
    if attention not in get_args(Attention):
        raise UserMistake("unknown attention", got=attention, expected=", ".join(get_args(Attention)))
    located = locate(checkpoint.name, revision=revision)
    try:
        if located.kind == "gguf":
            model = checkpoint.weights.running(dtype=DTYPES[dtype], attention=attention)
        else:
            model = _load(located.path, DTYPES[dtype], attention).to(checkpoint.weights.device)
    except (ImportError, KeyError, NotImplementedError, TypeError) as error:
        raise UnsupportedModel("transformers cannot run this checkpoint", got=error) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise Failure("transformers could not open this checkpoint", got=error) from error
    return TransformersModel(model, checkpoint.weights.shape, checkpoint.weights.family)


def _load(folder: Path, dtype: torch.dtype, attention: str) -> nn.Module:
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, local_files_only=True, trust_remote_code=False
    )


class TransformersModel:
    """`RunningModel` over a transformers causal language model of one of the engine's families."""

    def __init__(self, model: nn.Module, shape: ModelShape, family: str) -> None:
        self.model, self._shape = model.eval().requires_grad_(False), shape
        self._record = next(record for record in FAMILIES if record.name == family)
        blocks = [model.get_submodule(path) for path in _block_paths(model, self._record, shape.n_layers)]
        self.outputs = [block.get_submodule(self._record.output.name) for block in blocks]
        self._values = [block.get_submodule(self._record.value.name) for block in blocks]
        self.attentions = [block.get_submodule(self._record.output.name.rpartition(".")[0]) for block in blocks]
        self._body: nn.Module = getattr(model, "base_model")  # noqa: B009  (nn.Module types it as a tensor)
        self._unembed: nn.Module = model.get_output_embeddings()  # type: ignore[operator]

    @property
    def shape(self) -> ModelShape:
        return self._shape

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def attention(self) -> str:
        """The implementation of attention that runs: "eager", "sdpa" …"""
        return str(getattr(self.model.config, "_attn_implementation", "eager"))

    @torch.inference_mode()
    def head_states(self, ids: Tensor, source: int) -> HeadStates:
        """z of the last position and v of position `source` (negative counts from the end) in the clean run."""
        ids, length = ids.to(self.device), ids.shape[1]
        source = source % length
        shared = min(_shared_length(ids), source)
        cache = self._cached(ids[:1, :shared], repeats=len(ids)) if shared else None
        mixed: dict[int, Tensor] = {}
        values: dict[int, Tensor] = {}
        hooks = [(m, self._keep_mixed(mixed, i), "pre") for i, m in enumerate(self.outputs)]
        hooks += [(m, self._keep_values(values, i, source - shared), "post") for i, m in enumerate(self._values)]
        with hooked(hooks):
            self._run(ids[:, shared:], cache)
        return HeadStates(self._stacked(mixed), self._stacked(values))

    @torch.inference_mode()
    def predictions(self, ids: Tensor, ablations: Sequence[Ablation]) -> Tensor:
        """(A, n): the most likely next token; all but the last token run once, clean."""
        ids = ids.to(self.device)
        shared = min(_shared_length(ids), ids.shape[1] - 1)
        cache = self._cached(ids[:1, :shared], repeats=len(ids)) if shared else None
        if ids.shape[1] - 1 > shared:
            cache = self._run(ids[:, shared:-1], cache)[1]
        found = []
        for ablation in ablations:
            with hooked(self._replacing(ablation)):
                hidden, _ = self._run(ids[:, -1:], copy.deepcopy(cache))
            found.append(self._unembed(hidden[:, -1]).argmax(-1))
        return torch.stack(found).cpu()

    @torch.inference_mode()
    def logits_after(self, ids: Tensor, layer: int, added: Tensor) -> Tensor:
        """(m, V), float32: final logits of the prompt `ids` (T,), whose last token alone runs m times.

        Row i of `added` (m, d) is added to what the output projection of `layer` gives at the last position. The
        model's own head is used, with whatever it does to logits. Raises AttentionOutOfReach.
        """
        ids = ids.to(self.device)[None]
        cache = self._cached(ids[:, :-1], repeats=len(added)) if ids.shape[1] > 1 else None
        reached: set[int] = set()
        with hooked([(self.outputs[layer], self._add(added, reached, layer), "post")]):
            result = self.model(ids[:, -1:].expand(len(added), -1), past_key_values=cache, use_cache=True)
        self._check_reached(len(reached), 1)
        logits: Tensor = result.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def forced_heads(self, ids: Tensor, source: int, layer: int) -> Tensor:
        """(n, H, d_h): z of the last position with its attention in `layer` really forced to `source`."""
        self._check_open("forced")
        kept: dict[int, Tensor] = {}
        hooks = [(self.outputs[layer], self._keep_mixed(kept, layer), "pre")]
        with hooked([*hooks, (self.attentions[layer], _force(source), "pre-kwargs")]):
            self._run(ids.to(self.device), None)
        return kept[layer]

    @torch.inference_mode()
    def attention_weights(self, ids: Tensor) -> tuple[Tensor, ...]:
        """(n, H, T, T) of each layer, from positions (rows) to positions (columns). Raises AttentionOutOfReach."""
        self._check_open("read")
        found = self._body(ids.to(self.device), output_attentions=True, use_cache=False).attentions or ()
        self._check_reached(sum(one is not None for one in found), self.shape.n_layers)
        return tuple(found)

    def _check_open(self, what: str) -> None:
        """Raise AttentionOutOfReach where attention weights are never there as such."""
        if self.attention != "eager":
            raise AttentionOutOfReach(
                f"attention can only be {what} where it is computed in the open",
                got=f"{self.attention} attention",
                expected="--attention eager",
            )

    def _run(self, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Hidden states behind the final norm (n, T, d), and the cache."""
        result = self._body(ids, past_key_values=cache, use_cache=True)
        return result.last_hidden_state, result.past_key_values

    def _cached(self, ids: Tensor, *, repeats: int) -> Any:
        _, cache = self._run(ids, None)
        cache.batch_repeat_interleave(repeats)
        return cache

    def _keep_mixed(self, kept: dict[int, Tensor], layer: int) -> Hook:
        def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            last = args[0].reshape(-1, args[0].shape[-2], args[0].shape[-1])[:, -1]
            kept[layer] = last.unflatten(-1, (self.shape.n_heads, self.shape.d_head)).float()

        return keep

    def _keep_values(self, kept: dict[int, Tensor], layer: int, position: int) -> Hook:
        def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            kept[layer] = self._value_part(output.reshape(-1, output.shape[-2], output.shape[-1])[:, position]).float()

        return keep

    def _value_part(self, x: Tensor) -> Tensor:
        """(n, K, d_h) out of what the value projection gives, fused with queries and keys or not."""
        k, h, width = self.shape.n_value_heads, self.shape.n_heads, self.shape.d_head
        if self._record.fused_qkv == "grouped":
            return x.unflatten(-1, (k, h // k + 2, width))[:, :, -1]
        return x[:, -k * width :].unflatten(-1, (k, width))  # alone, or behind [Q; K]

    def _replacing(self, ablation: Ablation) -> list[tuple[nn.Module, Hook, str]]:
        return [
            (self.outputs[layer], self._replace(list(heads), ablation.replacement, layer), "pre")
            for layer, heads in ablation.heads.items()
            if heads
        ]

    def _replace(self, heads: list[int], replacement: Tensor | None, layer: int) -> Hook:
        def replace(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z = args[0].clone().unflatten(-1, (self.shape.n_heads, self.shape.d_head))
            z[..., -1, heads, :] = 0.0 if replacement is None else replacement[layer, heads].to(z)
            return (z.flatten(-2), *args[1:])

        return replace

    def _add(self, added: Tensor, reached: set[int], layer: int) -> Hook:
        def add(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            reached.add(layer)
            return output + added.to(output).view(output.shape)  # one position a row, so the sizes are the same

        return add

    def _stacked(self, kept: dict[int, Tensor]) -> Tensor:
        self._check_reached(len(kept), self.shape.n_layers)
        return torch.stack([kept[i] for i in range(self.shape.n_layers)])

    def _check_reached(self, layers: int, wanted: int) -> None:
        """Raise AttentionOutOfReach where hooks saw fewer layers than wanted: kernels may go round the modules."""
        if layers < wanted:
            raise AttentionOutOfReach(
                "the output of single heads cannot be reached in this model",
                got=f"{self._record.name} with {self.attention} attention, {layers} of {wanted} layers",
                expected="attention that calls its value and output projections as modules",
            )


@contextmanager
def hooked(hooks: Sequence[tuple[nn.Module, Hook, str]]) -> Iterator[None]:
    """Hooks of kind "pre", "pre-kwargs" or "post" for the time of the block; removed also after an error."""
    handles = []
    try:
        for module, hook, kind in hooks:
            if kind == "post":
                handles.append(module.register_forward_hook(hook))
            else:
                handles.append(module.register_forward_pre_hook(hook, with_kwargs=kind == "pre-kwargs"))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _block_paths(model: nn.Module, record: Family, n_layers: int) -> list[str]:
    names = {name for name, _ in model.named_modules()}
    for prefix in record.prefixes:
        paths = [(prefix + record.block.format(layer=i)).rstrip(".") for i in range(n_layers)]
        if all({f"{path}.{record.output.name}", f"{path}.{record.value.name}"} <= names for path in paths):
            return paths
    raise AttentionOutOfReach(
        "the output of single heads cannot be reached in this model",
        got=f"no module {record.block.format(layer=0)}{record.output.name} in {type(model).__name__}",
        expected=f"the modules of a {record.name} model",
    )


def _shared_length(ids: Tensor) -> int:
    """How many leading tokens all rows share; 0 for a single row, where there is nothing to save."""
    same = (ids == ids[:1]).all(0).long() if len(ids) > 1 else ids.new_zeros(ids.shape[1])
    return int(same.cumprod(0).sum())


def _force(source: int) -> Hook:
    """The additive mask that leaves the last position nothing but `source`."""

    def force(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.dim() != 4 or not mask.is_floating_point():
            raise AttentionOutOfReach(
                "the attention cannot be forced in this model", got=f"{type(module).__name__} without an additive mask"
            )
        mask = mask.clone()
        mask[..., -1, :] = torch.finfo(mask.dtype).min
        mask[..., -1, source] = 0
        return args, {**kwargs, "attention_mask": mask}

    return force
