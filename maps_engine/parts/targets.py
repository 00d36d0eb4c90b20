"""The strongest targets of words of many heads, the mean taken off, and of what the words of each part have in common.

W_O U^T of all heads of a layer is one product: a processor takes about two thirds of the time that it takes for as many
small ones. It is made for a chunk of targets at a time and is as large as that chunk of U.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.ov.circuit import UnembeddingTable, chunks
from maps_engine.ov.salience import TARGET_CHUNK
from maps_engine.ov.top_entries import RunningTop


@dataclass(frozen=True)
class Asked:
    """Whose targets of a head are wanted: its W_O (d_h, d), and values (n, d_h) less their mean."""

    output: Tensor
    values: Tensor


@dataclass(frozen=True)
class Targets:
    """Scores and ids (p + n, k), strongest first, of what each of p parts has in common and of n words.

    `row` says where a word stands, by its place among those that are read. On the processor.
    """

    scores: Tensor
    ids: Tensor
    row: dict[int, int]

    def common(self, part: int) -> tuple[Tensor, Tensor]:
        """Scores and ids (k,) of what the words of a part have in common."""
        return self.scores[part], self.ids[part]

    def of(self, place: int) -> tuple[Tensor, Tensor]:
        """Scores and ids (k,) of a word."""
        return self.scores[self.row[place]], self.ids[self.row[place]]

    def hits(self, places: Sequence[int], part: int, *, among: int, common: int) -> int:
        """How many of `places` have one of the `common` strongest of a part `among` their own strongest."""
        listed = self.ids[[self.row[place] for place in places], :among]
        return int(torch.isin(listed, self.ids[part, :common]).any(dim=1).sum())


def strongest(
    asked: Sequence[Asked], unembedding: UnembeddingTable, *, k: int, allowed: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """Scores and ids (n, k) of the strongest targets for each that is asked for; `allowed` (V,) of bool."""
    if not asked:
        return []
    outputs, d_h = torch.cat([one.output for one in asked]), len(asked[0].output)
    lists = [RunningTop(k) for _ in asked]
    for part in chunks(unembedding.weights.shape.vocab_size, TARGET_CHUNK):
        written = unembedding.rows(part).float() @ outputs.T
        ids = torch.arange(part.start, part.stop, device=written.device)
        for one, own, running in zip(asked, written.split(d_h, dim=1), lists, strict=True):
            scores = one.values @ own.T
            if allowed is not None:
                scores.masked_fill_(~allowed[part], -torch.inf)
            running.update(scores, ids)
    return [running.result() for running in lists]
