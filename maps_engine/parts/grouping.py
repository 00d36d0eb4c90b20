"""Groups of vectors that point alike: seeds where they lie densest, then the nearest seed for each.

Seeds are peaks of density among the longest vectors, and not drawn at random: the same vectors give the same groups.
Groups whose directions nearly coincide are joined, so that how many there are follows from the vectors. See
docs/method.md, "A head in parts", for what else was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

SEEN = 2048  # size of the sample in which seeds are looked for: the longest vectors
MOST_SEEDS = 32
NEAR = 0.5  # density of a vector: the sum of what its cosines with others exceed this
APART = 0.6  # largest cosine between two seeds
MEMBER = 0.4  # smallest cosine of a member with the direction of its group
JOINED = 0.8  # groups whose directions have this cosine are merged
FEWEST = 16  # members of a group
ROUNDS = 10  # of assigning vectors and taking the directions anew


@dataclass(frozen=True)
class Groups:
    """Directions (g, r) of unit length; `of_row` (n,) has the group of every vector, -1 for none."""

    directions: Tensor
    of_row: Tensor

    def assigned(self, rows: Tensor) -> Tensor:
        """(m,): the groups that other vectors (m, r) belong to, -1 for none."""
        return _nearest(normalize(rows, dim=-1), self.directions)


def grouped(rows: Tensor) -> Groups:
    """Groups of at least FEWEST of `rows` (n, r), in no order; long vectors count more. Rows of zeros are in none."""
    units, lengths = normalize(rows, dim=-1), rows.norm(dim=-1)
    directions = _seeds(units, lengths)
    of_row = _nearest(units, directions)
    for _ in range(ROUNDS):
        directions = _joined(_sums(rows, of_row, len(directions)))
        of_row = _nearest(units, directions)
    sizes = torch.stack([(of_row == group).sum() for group in range(len(directions))]) if len(directions) else of_row
    kept = (sizes[: len(directions)] >= FEWEST).nonzero().flatten()
    places = torch.full((len(directions) + 1,), -1, device=rows.device)
    places[kept] = torch.arange(len(kept), device=rows.device)
    return Groups(directions[kept], places[of_row])


def _seeds(units: Tensor, lengths: Tensor) -> Tensor:
    """(s, r): the vectors that most others lie near, none beside another."""
    seen = lengths.topk(min(SEEN, len(lengths))).indices
    seen = seen[lengths[seen] > 0]
    sample, weights = units[seen], lengths[seen]
    pieces = sample.split(128)  # whose cosines with all of the sample stay in the processor's cache
    density = torch.cat([((some @ sample.T - NEAR).clamp_min_(0) * weights).sum(dim=-1) for some in pieces])
    found: list[int] = []
    while len(found) < min(MOST_SEEDS, len(sample)):
        peak = int(density.argmax())
        if density[peak] <= 0:
            break
        found.append(peak)
        density.masked_fill_(sample @ sample[peak] > APART, 0)
        density[peak] = 0
    return sample[found]


def _nearest(units: Tensor, directions: Tensor) -> Tensor:
    """(n,): the nearest direction of each vector, -1 where none is near enough."""
    if not len(directions):
        return torch.full((len(units),), -1, device=units.device)
    best, at = (units @ directions.T).max(dim=-1)
    return at.masked_fill(best < MEMBER, -1)


def _sums(rows: Tensor, of_row: Tensor, n: int) -> Tensor:
    """(n', r): the sum of the members of each group that has any."""
    sums = (of_row.unsqueeze(0) == torch.arange(n, device=rows.device).unsqueeze(1)).to(rows) @ rows
    return sums[sums.norm(dim=-1) > 0]


def _joined(sums: Tensor) -> Tensor:
    """(g, r): directions of the groups, the closest two made one while they point alike."""
    while len(sums) > 1:
        units = normalize(sums, dim=-1)
        cosines = (units @ units.T).fill_diagonal_(-1)
        if cosines.max() < JOINED:
            break
        one, other = sorted(divmod(int(cosines.argmax()), len(sums)))
        sums[one] += sums[other]
        sums = torch.cat([sums[:other], sums[other + 1 :]])
    return normalize(sums, dim=-1)
