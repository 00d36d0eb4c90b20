"""What the comparison of settings is made of: r by operation and by layer, means, and leads paired by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eval.faithfulness.dynamic_scores import Projection
from eval.faithfulness.dynamic_table import DynamicTable
from eval.faithfulness.static_scores import StaticTable
from eval.statistics.correlation import correlate
from eval.statistics.intervals import interval_of_mean

ByOperation = Mapping[str, float | None]


@dataclass(frozen=True)
class Lead:
    """Mean difference in r to the paper's setting, and its 95 % interval over operations."""

    value: float
    low: float
    high: float


def r_by_operation(
    table: StaticTable, dynamic: DynamicTable, projection: Projection, context: str, side: str = "score"
) -> dict[str, float | None]:
    """r over heads of the operations in `dynamic`; context: with_context or without_context; side: or suppression."""
    found = {}
    for name, scores in dynamic.items():
        theirs = getattr(getattr(scores[projection], context), side)
        found[name] = correlate(getattr(table[name], side), theirs).r
    return found


def r_by_layer(table: StaticTable, dynamic: DynamicTable) -> tuple[float | None, ...]:
    """Of each layer, r without context (plain) over all pairs of an operation and a head of that layer.

    The few heads of one layer would give a noisy r an operation; None where one side does not vary.
    """
    if not dynamic:
        return ()
    static = torch.stack([table[name].score for name in dynamic])  # (R, L, H) for R operations
    running = torch.stack([one["plain"].without_context.score for one in dynamic.values()])
    return tuple(correlate(static[:, layer], running[:, layer]).r for layer in range(static.shape[1]))


def mean_r(values: ByOperation) -> float:
    """Mean over operations; an operation on which no head scores, and so without r, counts as 0."""
    return float(np.mean([r or 0.0 for r in values.values()])) if values else 0.0


def paired_lead(ours: ByOperation, theirs: ByOperation, *, seed: int = 0) -> Lead:
    """Mean difference over operations and the ends of its 95 % interval; all 0 without operations."""
    if not ours:
        return Lead(0.0, 0.0, 0.0)
    differences = np.array([(ours[name] or 0.0) - (theirs[name] or 0.0) for name in ours])
    low, high = interval_of_mean(differences, seed=seed) or (0.0, 0.0)
    return Lead(float(differences.mean()), low, high)


def best_by_operation(r: Mapping[str, ByOperation], operations: Sequence[str]) -> dict[str, str]:
    """The setting with the largest r for each of `operations`; the first of equals."""
    return {one: max(r, key=lambda setting: r[setting][one] or 0.0) for one in operations}
