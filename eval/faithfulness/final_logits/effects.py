"""What a head's output does to the final logits of the running model, pair by pair.

y = v_s W_O[h] is what the head writes when it attends to the source s alone; v_s is read off a clean run of the start
of texts and s. y is added to what the attention of the head's layer gives at the last position of a neutral prompt, the
rest of the model runs on, and its final logits are held against those of the same prompt without y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eval.faithfulness.ablation import Head
from eval.faithfulness.final_logits.asked import AskedPair
from eval.faithfulness.running.running_model import RunningModel
from maps_engine.model import ModelWeights


@dataclass(frozen=True)
class Effect:
    """One head, means over pairs: z of the target, share of pairs with it among the k, and both for dealt targets."""

    z: float
    hit: float
    z_shuffled: float
    hit_shuffled: float


@dataclass(frozen=True)
class Asked:
    """Pairs of one operation as rows of `source_values`, the prompts that they run in, and its k."""

    pairs: Sequence[AskedPair]
    prompts: Sequence[tuple[int, ...]]
    k: int

    def wanted(self) -> Tensor:
        """(n, 1 + D) of token ids: each pair's target, then dealt ones; its own again where it has fewer than D."""
        width = max(len(one.wanted) for one in self.pairs)
        return torch.tensor([one.wanted + (one.target,) * (width - len(one.wanted)) for one in self.pairs])

    def dealt(self) -> Tensor:
        """(n, D) of float: 1 where `wanted` holds a dealt target."""
        width = max(len(one.dealt) for one in self.pairs)
        return torch.tensor([[float(j < len(one.dealt)) for j in range(width)] for one in self.pairs])

    def in_prompt(self, prompt: int) -> list[int]:
        """The pairs that run in that prompt."""
        return [i for i, one in enumerate(self.pairs) if prompt in one.prompts]


def source_values(model: RunningModel, start: Sequence[int], sources: Sequence[int], *, batch: int) -> Tensor:
    """(L, n, K, d_h): v of each source behind `start`, from clean runs."""
    ids = torch.tensor([[*start, source] for source in sources])
    return torch.cat([model.head_states(part, len(start)).values for part in ids.split(batch)], dim=1)


def head_effect(
    model: RunningModel, weights: ModelWeights, asked: Asked, values: Tensor, head: Head, *, batch: int
) -> Effect:
    """The effect of one head; `values` (L, n, K, d_h) are those of the sources of `asked`, `batch` rows run together.

    Raises AttentionOutOfReach.
    """
    layer, number = head
    output = weights.attention(layer).output[number]
    read = values[layer][:, model.shape.value_head_of(number)]
    return _effect(model, asked, layer, read.to(output) @ output, batch)


def _effect(model: RunningModel, asked: Asked, layer: int, written: Tensor, batch: int) -> Effect:
    """`written` (n, d): the head's output for each pair. Means over prompts first, then over dealt targets, pairs."""
    wanted = asked.wanted()
    total = torch.zeros(2, *wanted.shape, dtype=torch.float64)
    for number, prompt in enumerate(asked.prompts):
        for rows in torch.tensor(asked.in_prompt(number), dtype=torch.long).split(batch):
            if len(rows):
                moved = moved_logits(model, torch.tensor(prompt), layer, written[rows.to(written.device)])
                total[:, rows] += torch.stack(shift_of(moved, wanted[rows], asked.k)).double().cpu()
    mean = total / torch.tensor([len(one.prompts) for one in asked.pairs])[None, :, None]
    own, dealt = mean[:, :, 0].mean(1).tolist(), asked.dealt()
    shuffled = ((mean[:, :, 1:] * dealt).sum(-1) / dealt.sum(-1)).mean(1).tolist()
    return Effect(own[0], own[1], shuffled[0], shuffled[1])


def moved_logits(model: RunningModel, prompt: Tensor, layer: int, written: Tensor) -> Tensor:
    """(m, V): final logits with each row of `written` (m, d) put in, less those of the clean prompt."""
    # the clean prompt runs in the same batch, so that both are rounded alike
    logits = model.logits_after(prompt, layer, torch.cat([torch.zeros_like(written[:1]), written]))
    return logits[1:] - logits[:1]


def shift_of(moved: Tensor, wanted: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """z and hit, (m, C) each, of the tokens `wanted` (m, C) in `moved` (m, V).

    z is in standard deviations over the vocabulary; a hit has fewer than k larger entries. What moves nothing has z 0
    and no hit.
    """
    wanted = wanted.to(moved.device)
    values = moved.gather(1, wanted)
    spread = moved.std(1, keepdim=True, correction=0)
    z = (values - moved.mean(1, keepdim=True)) / spread.clamp_min(torch.finfo(moved.dtype).tiny)
    larger = torch.stack([(moved > values[:, [c]]).sum(1) for c in range(wanted.shape[1])], dim=1)
    return z, ((larger < k) & (spread > 0)).to(z)
