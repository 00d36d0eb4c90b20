"""Spearman's rho over the keys of a query: does a prediction order them as the running model's attention does?

Keys are ranked among those that the query may see, ties shared. A row of ranks is centred and of length 1, so that the
product of two is rho; where all keys are alike, on either side, rho counts as 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unit_ranks(values: Tensor, seen: Tensor) -> Tensor:
    """(..., q, k): ranks of each row's `seen` values, centred and of length 1; 0 where a key is not seen."""
    shown = values.float().masked_fill(~seen, torch.inf)  # behind all that are ranked
    ordered = shown.sort(dim=-1).values
    below, up_to = (torch.searchsorted(ordered, shown, right=right) for right in (False, True))
    return _unit(below + up_to - seen.sum(dim=-1, keepdim=True), seen)


def nearness(seen: Tensor) -> Tensor:
    """(..., q, k): the same for keys that rank the higher the nearer they are."""
    return _unit(2 * seen.cumsum(dim=-1) - 1 - seen.sum(dim=-1, keepdim=True), seen)


def rho(first: Tensor, second: Tensor) -> Tensor:
    """(..., q): of two rankings by `unit_ranks` among the same keys."""
    return (first * second).sum(dim=-1)


def _unit(centred: Tensor, seen: Tensor) -> Tensor:
    """Twice the rank less its mean, shortened to length 1."""
    return torch.nn.functional.normalize(centred.float().masked_fill(~seen, 0.0), dim=-1)
