"""Do heads chosen by one reading hurt their operation more than as many chosen by another? Paired by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from eval.faithfulness.ablation import Head, Task, ask, heads_of, removal, steps
from eval.faithfulness.running.running_model import RunningModel
from eval.faithfulness.setting_statistics import paired_lead

Row = dict[str, Any]


@dataclass(frozen=True)
class OtherChoice:
    """As many heads of an operation as another reading would remove: its strongest, whatever their scores.

    heads: strongest first, as many as the task's own that are removed; fewer where the other reading gives fewer heads
    a score at all.
    """

    setting: str
    heads: tuple[Head, ...]


def other_choice(setting: str, scores: Tensor, n: int) -> OtherChoice:
    """The `n` strongest heads under `scores` (L, H), those that score nothing left out."""
    strongest = heads_of(scores, tau=0.0)[:n]
    return OtherChoice(setting, tuple(head for head in strongest if scores[head] > 0))


def against_row(model: RunningModel, task: Task, other: OtherChoice, n: int, *, batch: int) -> Row:
    """Accuracy with the first 1, 2, 4, … heads of either choice zeroed, up to `n` or as many as both have.

    curve: how many are removed, how many of them both choices share, accuracy under `own` and `other`.
    """
    at = steps(min(n, len(other.heads)))
    pairs = [(task.heads[:n_removed], other.heads[:n_removed]) for n_removed in at]
    ablations = [removal(heads, "zero", task.means) for pair in pairs for heads in pair]
    right = ask(model, task.questions, ablations, batch=batch).mean(1) if ablations else []
    curve = [
        {
            "n": n_removed,
            "shared": len(set(own) & set(others)),
            "own": round(float(right[2 * i]), 4),
            "other": round(float(right[2 * i + 1]), 4),
        }
        for i, (n_removed, (own, others)) in enumerate(zip(at, pairs, strict=True))
    ]
    return {"setting": other.setting, "curve": curve}


def differences(rows: Sequence[Row]) -> list[Row]:
    """Mean over operations of accuracy lost to `own` heads less accuracy lost to `other` ones, by heads removed.

    rows: those of the causal table that have an `against` row. The last entry, n None, is at each operation's most
    heads. A positive `value` says that the own choice hurts more; low and high are the ends of the 95 % interval.
    """
    compared = [(row["name"], row["against"]["curve"]) for row in rows if "against" in row]
    curves: Mapping[str, list[Row]] = {name: curve for name, curve in compared if curve}
    counts = sorted({point["n"] for curve in curves.values() for point in curve[:-1]})
    counts = [n for n in counts if n & (n - 1) == 0]
    found = [_difference(n, {name: _at(curve, n) for name, curve in curves.items()}) for n in counts]
    return [*found, _difference(None, {name: curve[-1] for name, curve in curves.items()})] if curves else []


def _at(curve: Sequence[Row], n: int) -> Row | None:
    return next((point for point in curve if point["n"] == n), None)


def _difference(n: int | None, points: Mapping[str, Row | None]) -> Row:
    known = {name: point for name, point in points.items() if point is not None}
    lead = paired_lead(
        {name: -point["own"] for name, point in known.items()}, {name: -point["other"] for name, point in known.items()}
    )
    removed = sum(point["n"] for point in known.values())
    shared = sum(point["shared"] for point in known.values()) / removed
    return {"n": n, "operations": len(known), "shared": round(shared, 4), **asdict(lead)}
