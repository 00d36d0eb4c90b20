"""What effects on the final logits come to: by operation and choice of heads, and over operations with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch

from eval.faithfulness.ablation import Head
from eval.faithfulness.final_logits.chosen_heads import CHOICES, RANDOM, Choices, union
from eval.faithfulness.final_logits.effects import Effect
from eval.faithfulness.setting_statistics import ByOperation, paired_lead
from eval.faithfulness.static_scores import PAPER, RESIDUAL
from eval.statistics.correlation import correlate
from eval.statistics.intervals import interval_of_mean

MEASURES: Final = ("z", "hit")
HALVES: Final = ("lower", "upper")
Row = dict[str, Any]


@dataclass(frozen=True)
class LogitsTable:
    """All operations of one model; rows are those of `operation_row`, skipped ones have a name and why."""

    heads: int  # of each choice
    n_layers: int
    prompts: tuple[str, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        known = [choice for choice in CHOICES if all(choice in row["choices"] for row in self.rows)]
        return {
            "heads_a_choice": self.heads,
            "prompts": list(self.prompts),
            "means": {choice: self._means(choice) for choice in known} if self.rows else {},
            "differences": self._differences(known),
            "halves": [self._half(choice, half) for choice in known for half in HALVES] if self.rows else [],
            "r": self._r([choice for choice in known if choice != RANDOM]),
            "relations": list(self.rows),
            "skipped": list(self.skipped),
        }

    def _above(self, choice: str, measure: str) -> dict[str, float | None]:
        return {row["name"]: row["choices"][choice][f"{measure}_above"] for row in self.rows}

    def _means(self, choice: str) -> Row:
        return {measure: mean_over_operations(self._above(choice, measure)) for measure in MEASURES}

    def _half(self, choice: str, half: str) -> Row:
        """Means over the chosen heads of all operations in that half; a layer in the middle is in the upper one.

        The nearer a head is to the end, the nearer its way to the logits is to the product with U.
        """
        heads = [head for row in self.rows for head in row["heads"] if choice in head["chosen_by"]]
        mine = [head for head in heads if HALVES[2 * head["layer"] >= self.n_layers] == half]
        means = {m: float(np.mean([one[m] - one[f"{m}_shuffled"] for one in mine])) if mine else None for m in MEASURES}
        return {"choice": choice, "half": half, "heads": len(mine), **means}

    def _differences(self, known: Sequence[str]) -> list[Row]:
        """`residual` less the paper's setting, and less the random heads, paired by operation."""
        first = RESIDUAL.name
        return [
            {"of": first, "less": other}
            | {m: asdict(paired_lead(self._above(first, m), self._above(other, m))) for m in MEASURES}
            for other in known
            if self.rows and other != first
        ]

    def _r(self, settings: Sequence[str]) -> list[Row]:
        """Means of r over operations; one in which phi or the hits do not vary counts as 0."""
        r = {one: {row["name"]: row["r"][one] for row in self.rows} for one in settings}
        lead = {one: asdict(paired_lead(r[one], r[PAPER.name])) for one in r if PAPER.name in r and one != PAPER.name}
        return [{"setting": one, **mean_over_operations(r[one]), "lead": lead.get(one)} for one in r if self.rows]


def operation_row(
    about: Mapping[str, Any], chosen: Choices, phi: Mapping[str, torch.Tensor], effects: Mapping[Head, Effect]
) -> Row:
    """One operation: each choice's means over heads, r of phi with hits over all chosen heads, and the heads."""
    heads = union(chosen)
    hits = torch.tensor([effects[head].hit for head in heads])
    settings = [set(heads) for choice, heads in chosen.items() if choice != RANDOM]
    return {
        **about,
        "choices": {choice: _mean_effect([effects[head] for head in mine]) for choice, mine in chosen.items()},
        "shared": len(set.intersection(*settings)) if len(settings) > 1 else None,  # by both settings
        "r": {one: correlate(torch.stack([phi[one][head] for head in heads]), hits).r for one in phi},
        "heads": [_head_row(head, chosen, phi, effects[head]) for head in heads],
    }


def _head_row(head: Head, chosen: Choices, phi: Mapping[str, torch.Tensor], effect: Effect) -> Row:
    return {
        "layer": head[0],
        "head": head[1],
        "chosen_by": [choice for choice, heads in chosen.items() if head in heads],
        "phi": {one: round(float(scores[head]), 6) for one, scores in phi.items()},
        **{name: round(value, 6) for name, value in asdict(effect).items()},
    }


def _mean_effect(effects: Sequence[Effect]) -> dict[str, float]:
    """Means over heads, and what of them is owed to the right partner (`above`)."""
    found = {name: float(np.mean([getattr(one, name) for one in effects])) for name in asdict(effects[0])}
    above = {f"{measure}_above": found[measure] - found[f"{measure}_shuffled"] for measure in MEASURES}
    return {name: round(value, 6) for name, value in (found | above).items()}


def mean_over_operations(values: ByOperation) -> dict[str, float]:
    """Mean and the ends of its 95 % interval over operations, of which there is at least one; None counts as 0."""
    data = np.array([value or 0.0 for value in values.values()])
    low, high = interval_of_mean(data) or (0.0, 0.0)
    return {"value": float(data.mean()), "low": low, "high": high}
