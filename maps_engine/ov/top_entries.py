"""The largest entries of many long rows, and a running list of them over chunks of the vocabulary.

`torch.topk` over 49,152 entries costs four to five times a pass over blocks: any of the k largest entries lies in one
of the k blocks with the largest maxima, so only k blocks of 64 are sorted. Exact, including for equal entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 64


def top_entries(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and positions (n, k) of the k largest entries of `rows` (n, m), largest first."""
    n, m = rows.shape
    k = min(k, m)
    n_blocks = m // BLOCK
    if n_blocks <= 4 * k:
        found = rows.topk(k, dim=-1)
        return found.values, found.indices
    whole, rest = rows[:, : n_blocks * BLOCK].view(n, n_blocks, BLOCK), rows[:, n_blocks * BLOCK :]
    best = whole.amax(-1).topk(k, dim=-1, sorted=False).indices
    picked = whole.gather(1, best.unsqueeze(-1).expand(-1, -1, BLOCK)).flatten(1)
    offsets = torch.arange(BLOCK, device=rows.device)
    positions = (best.unsqueeze(-1) * BLOCK + offsets).flatten(1)
    if rest.shape[1]:
        tail = torch.arange(n_blocks * BLOCK, m, device=rows.device).expand(n, -1)
        picked, positions = torch.cat([picked, rest], 1), torch.cat([positions, tail], 1)
    found = picked.topk(k, dim=-1)
    return found.values, positions.gather(1, found.indices)


@dataclass
class RunningTop:
    """The k largest entries seen so far in each of n rows; `update` takes one chunk of columns at a time."""

    k: int
    values: Tensor | None = None  # (n, <=k)
    ids: Tensor | None = None  # (n, <=k) column ids in the caller's numbering

    def update(self, chunk: Tensor, ids: Tensor) -> None:
        """Merge `chunk` (n, c), whose columns are `ids` (c,)."""
        values, positions = top_entries(chunk, self.k)
        found = ids[positions]
        if self.values is not None and self.ids is not None:
            values, found = torch.cat([self.values, values], 1), torch.cat([self.ids, found], 1)
            values, order = values.topk(min(self.k, values.shape[1]), dim=-1)
            found = found.gather(1, order)
        self.values, self.ids = values, found

    def result(self) -> tuple[Tensor, Tensor]:
        """Values and ids (n, k), largest first, equal values by lower id. Raises ValueError before any `update`."""
        if self.values is None or self.ids is None:
            raise ValueError("no chunk was given")
        by_id = self.ids.argsort(dim=-1, stable=True)
        values, ids = self.values.gather(1, by_id), self.ids.gather(1, by_id)
        order = values.argsort(dim=-1, descending=True, stable=True)
        return values.gather(1, order), ids.gather(1, order)
