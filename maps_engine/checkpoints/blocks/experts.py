"""Experts of a mixture as transformers' modules hold them: all of a block in one tensor, whatever the files have.

Mixtral's files hold each expert's three matrices apart (`block_sparse_moe.experts.0.w1.weight`); the modules hold
`mlp.experts.gate_up_proj` (experts, 2 * inner, d) and `mlp.experts.down_proj` (experts, d, inner).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from maps_engine.checkpoints.formats.tensor_source import TensorSource


def joined_experts(source: TensorSource, prefix: str, wanted: Iterable[str]) -> dict[str, Tensor]:
    """Those of the tensors `wanted` (names in the block whose tensors begin with `prefix`) that are made of others.

    Raises BrokenCheckpoint naming a matrix that is not there.
    """
    start = f"{prefix}block_sparse_moe."
    if f"{start}gate.weight" not in source.names():
        return {}
    made = {
        "mlp.gate.weight": lambda: source.read(f"{start}gate.weight"),
        "mlp.experts.gate_up_proj": lambda: torch.cat([_all(source, start, "w1"), _all(source, start, "w3")], dim=1),
        "mlp.experts.down_proj": lambda: _all(source, start, "w2"),
    }
    return {name: made[name]() for name in wanted if name in made}


def _all(source: TensorSource, start: str, matrix: str) -> Tensor:
    """(experts, out, in): one matrix of every expert."""
    expert = re.compile(re.escape(f"{start}experts.") + r"(\d+)\.")
    numbers = [int(found[1]) for name in source.names() if (found := expert.match(name))]
    return torch.stack([source.read(f"{start}experts.{i}.{matrix}.weight") for i in range(max(numbers, default=0) + 1)])
