"""Which of the engine's settings predicts the running model best: mean r over operations, beside the paper's setting.

All settings are compared with the same dynamic scores: under the paper's plain projection, and under the folded one
(through the gains between head and logits), since a setting that folds gains into U aims at the latter. Differences to
the paper's setting are paired by operation; their intervals come from a bootstrap over operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.faithfulness.bench import Bench
from eval.faithfulness.correlation import PairLimits
from eval.faithfulness.dynamic_scores import Projection
from eval.faithfulness.dynamic_table import DynamicTable, dynamic_table
from eval.faithfulness.running.pair_choice import ChosenPairs, one_token_pairs
from eval.faithfulness.static_scores import PAPER, StaticTable, compared_settings, static_scores
from eval.statistics.correlation import correlate
from eval.statistics.intervals import interval_of_mean
from maps_engine.relations.format import Relation

PROJECTIONS: tuple[Projection, ...] = ("plain", "folded")
CLEAR = 0.02  # a lead in mean r that is worth a change, if its interval leaves 0 out too


@dataclass(frozen=True)
class SettingScore:
    """One setting: mean r over operations, by projection, and its paired lead over the paper's setting."""

    setting: str
    operations: int
    without_context: dict[Projection, float]
    with_context: float  # plain
    suppression: dict[Projection, float]  # without context
    lead: dict[Projection, float]  # of without_context over the paper's
    lead_low: dict[Projection, float]
    lead_high: dict[Projection, float]
    best_for: int  # operations that this setting reads best, plain, without context
    r: dict[str, float | None]  # by operation, plain, without context


@dataclass(frozen=True)
class SettingsComparison:
    """All settings, the best mean r first (plain projection, without context)."""

    rows: tuple[SettingScore, ...]

    @property
    def best(self) -> SettingScore:
        return self.rows[0]

    @property
    def clear_winner(self) -> SettingScore | None:
        """A setting other than the paper's that leads clearly under both projections; None without one."""
        for row in self.rows:
            if row.setting != PAPER.name and all(row.lead[p] >= CLEAR and row.lead_low[p] > 0 for p in PROJECTIONS):
                return row
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        winner = self.clear_winner
        return {"clear_winner": winner.setting if winner else None, "settings": [asdict(row) for row in self.rows]}


def compare_settings(bench: Bench, relations: Sequence[Relation], limits: PairLimits) -> SettingsComparison:
    """Every setting that the model can be read with, over all operations with enough pairs. Raises MixedResults."""
    chosen, _ = one_token_pairs(relations, bench.checkpoint.vocabulary, **asdict(limits))
    dynamic = dynamic_table(bench, chosen)
    settings = compared_settings(bench)
    tables = {one.name: static_scores(bench, chosen, one) for one in settings}
    plain = {name: _r(chosen, table, dynamic, "plain", "without_context") for name, table in tables.items()}
    best = _best_by_operation(plain)
    # a mixture of experts has no paper setting: the first one stands in
    base = PAPER.name if PAPER.name in tables else settings[0].name
    rows = [_score(name, chosen, table, tables[base], dynamic, plain[name], best) for name, table in tables.items()]
    return SettingsComparison(tuple(sorted(rows, key=lambda row: -row.without_context["plain"])))


def _score(
    name: str,
    chosen: Sequence[ChosenPairs],
    table: StaticTable,
    paper: StaticTable,
    dynamic: DynamicTable,
    plain: dict[str, float | None],
    best: dict[str, str],
) -> SettingScore:
    without = {p: _r(chosen, table, dynamic, p, "without_context") for p in PROJECTIONS}
    suppressed = {p: _r(chosen, table, dynamic, p, "without_context", "suppression") for p in PROJECTIONS}
    leads = {p: paired_lead(without[p], _r(chosen, paper, dynamic, p, "without_context"), seed=0) for p in PROJECTIONS}
    return SettingScore(
        setting=name,
        operations=sum(r is not None for r in plain.values()),
        without_context={p: mean_r(without[p]) for p in PROJECTIONS},
        with_context=mean_r(_r(chosen, table, dynamic, "plain", "with_context")),
        suppression={p: mean_r(suppressed[p]) for p in PROJECTIONS},
        lead={p: leads[p][0] for p in PROJECTIONS},
        lead_low={p: leads[p][1] for p in PROJECTIONS},
        lead_high={p: leads[p][2] for p in PROJECTIONS},
        best_for=sum(winner == name for winner in best.values()),
        r=plain,
    )


def _r(
    chosen: Sequence[ChosenPairs],
    table: StaticTable,
    dynamic: DynamicTable,
    projection: Projection,
    context: str,
    side: str = "score",
) -> dict[str, float | None]:
    found = {}
    for one in chosen:
        scores = getattr(dynamic[one.name][projection], context)
        found[one.name] = correlate(getattr(table[one.name], side), getattr(scores, side)).r
    return found


def mean_r(values: dict[str, float | None]) -> float:
    """Mean over operations; an operation on which no head scores, and so without r, counts as 0."""
    return float(np.mean([r or 0.0 for r in values.values()])) if values else 0.0


def paired_lead(
    ours: dict[str, float | None], theirs: dict[str, float | None], *, seed: int = 0
) -> tuple[float, float, float]:
    """Mean difference over operations and the ends of its 95 % interval; all 0 without operations."""
    if not ours:
        return 0.0, 0.0, 0.0
    differences = np.array([(ours[name] or 0.0) - (theirs[name] or 0.0) for name in ours])
    low, high = interval_of_mean(differences, seed=seed) or (0.0, 0.0)
    return float(differences.mean()), low, high


def _best_by_operation(r: dict[str, dict[str, float | None]]) -> dict[str, str]:
    names = next(iter(r.values())) if r else {}
    best = {}
    for operation in names:
        scored = {setting: values[operation] or 0.0 for setting, values in r.items()}
        best[operation] = max(scored, key=lambda setting: scored[setting])
    return best
