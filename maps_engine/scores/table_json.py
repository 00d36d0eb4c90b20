"""A table of relation scores as JSON and back: what `map-relations --json` prints and `compare` reads.

`{model, source, relations: [{name, k, pairs, used, scores: [layer][head], suppression: [layer][head], null, p, …}]}`.
p is per head, not corrected for the number of heads.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.finite import finite
from maps_engine.relations.significance import Significance
from maps_engine.relations.thresholds import MIN_PAIRS
from maps_engine.scores.table import ModelScores, RelationScores

FORMAT = "headscribe relation scores 1"


def versions() -> dict[str, str]:
    """What made the numbers."""
    return {
        "headscribe": version("headscribe"),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def scores_to_json(scores: ModelScores) -> dict[str, Any]:
    """The whole table as plain JSON values."""
    return {
        "format": FORMAT,
        "model": scores.model,
        "fingerprint": scores.fingerprint,
        "source": scores.source,
        "lead_in": list(scores.lead_in),
        "layers": scores.n_layers,
        "heads": scores.n_heads,
        "value_heads": scores.n_value_heads,
        "min_pairs": scores.min_pairs,
        "versions": versions(),
        "relations": [relation_to_json(one) for one in scores.relations],
    }


def relation_to_json(one: RelationScores) -> dict[str, Any]:
    """One operation; tables are [layer][head], or null where there were too few pairs."""
    return {
        "name": one.name,
        "category": one.category,
        "description": one.description,
        "k": one.k,
        "pairs": one.n_pairs,
        "used": one.n_used,
        "target": one.target,
        "verdict": one.verdict,
        "dropped": dict(one.dropped),
        "scores": _table(one.score),
        "suppression": _table(one.suppression),
        "null": _table(one.promoting.null if one.promoting else None),
        "suppression_null": _table(one.suppressing.null if one.suppressing else None),
        "p": _p_table(one.promoting),
        "suppression_p": _p_table(one.suppressing),
    }


def read_scores(path: Path, *, instead: str | None = None) -> ModelScores:
    """A saved table. Raises UserMistake when the file cannot be read or is something else; `instead` is its hint."""
    try:
        whole = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserMistake(f"cannot read {path}", got=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise _no_table(path, "no JSON", instead) from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise _no_table(path, whole.get("format", "other JSON") if isinstance(whole, dict) else "other JSON", instead)
    try:
        return scores_from_json(whole)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise _no_table(path, f"a damaged table ({type(error).__name__}: {error})", instead) from error


def scores_from_json(whole: dict[str, Any]) -> ModelScores:
    """The table that `scores_to_json` wrote (rounded as it wrote it).

    Of a file written when the best of several representations could be asked for, it is the table of the best."""
    shape = (int(whole["layers"]), int(whole["heads"]))
    return ModelScores(
        str(whole["model"]),
        str(whole["fingerprint"]),
        str(whole["source"]),
        *shape,
        int(whole["value_heads"]),
        tuple(_relation(one, shape) for one in whole["relations"]),
        int(whole.get("min_pairs", MIN_PAIRS)),
        tuple(map(str, whole.get("lead_in", [""]))),
    )


def _relation(one: dict[str, Any], shape: tuple[int, int]) -> RelationScores:
    def table(name: str) -> Tensor | None:
        return None if one.get(name) is None else _shaped(torch.tensor(one[name], dtype=torch.float32), shape)

    return RelationScores(
        str(one["name"]),
        str(one["category"]),
        str(one["description"]),
        int(one["k"]),
        int(one["pairs"]),
        int(one["used"]),
        one["target"],
        tuple(one.get("dropped", {}).items()),
        table("scores"),
        table("suppression"),
        _significance(one, "null", "p", shape),
        _significance(one, "suppression_null", "suppression_p", shape),
    )


def _significance(one: dict[str, Any], null: str, p: str, shape: tuple[int, int]) -> Significance | None:
    if one.get(null) is None or one.get(p) is None:
        return None
    values = [
        torch.tensor([[torch.nan if x is None else x for x in row] for row in one[name]], dtype=torch.float64)
        for name in (null, p)
    ]
    null_table, p_table = (_shaped(one, shape) for one in values)
    return Significance(null_table, torch.full(shape, torch.nan).double(), p_table)


def _shaped(table: Tensor, shape: tuple[int, int]) -> Tensor:
    if table.shape != shape:  # a transposed one holds as many numbers
        raise ValueError(f"a table of {tuple(table.shape)}, not {shape}")
    return table


def _no_table(path: Path, got: str, instead: str | None) -> UserMistake:
    return UserMistake(
        f"{path} is no table of relation scores",
        got=got,
        expected="a file written by map-relations --save",
        next_step=instead,
    )


def _table(values: Tensor | None) -> list[list[float | None]] | None:
    return None if values is None else [[finite(round(x, 5)) for x in row] for row in values.tolist()]


def _p_table(significance: Significance | None) -> list[list[float | None]] | None:
    if significance is None:
        return None
    return [[finite(float(f"{x:.3g}")) for x in row] for row in significance.p.tolist()]
