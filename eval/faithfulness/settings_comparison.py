"""Which of the engine's settings predicts the running model best: mean r over operations, beside the paper's setting.

All settings are compared with the same dynamic scores: under the paper's plain projection, and under the folded one
(through the gains between head and logits), since a setting that folds gains into U aims at the latter. Differences to
the paper's setting are paired by operation; their intervals come from a bootstrap over operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.faithfulness.bench import Bench
from eval.faithfulness.correlation import PairLimits, several_token_scores
from eval.faithfulness.dynamic_scores import Projection
from eval.faithfulness.dynamic_table import DynamicTable, dynamic_table
from eval.faithfulness.running.pair_choice import one_token_pairs
from eval.faithfulness.setting_statistics import (
    Lead,
    best_by_operation,
    mean_r,
    paired_lead,
    r_by_layer,
    r_by_operation,
)
from eval.faithfulness.static_scores import PAPER, StaticTable, compared_settings, static_scores
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
    with_context_lead: Lead  # plain
    suppression_lead: Lead  # plain, without context
    best_for: int  # operations that this setting reads best, plain, without context
    r: dict[str, float | None]  # by operation, plain, without context
    by_layer: tuple[float | None, ...]  # over operations and heads of a layer together, plain, without context
    several_tokens: float | None = None  # plain, without context, on sources of several tokens; None: not asked for


@dataclass(frozen=True)
class SettingsComparison:
    """All settings, the best mean r first (plain projection, without context)."""

    rows: tuple[SettingScore, ...]
    several_tokens_operations: int | None = None  # with enough sources of several tokens; None: not asked for

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
        return {
            "clear_winner": winner.setting if winner else None,
            "several_tokens_operations": self.several_tokens_operations,
            "settings": [asdict(row) for row in self.rows],
        }


@dataclass(frozen=True)
class _Running:
    """What all settings are held against."""

    one_token: DynamicTable
    several_tokens: DynamicTable | None

    def r(self, table: StaticTable) -> dict[str, dict[str, float | None]]:
        """By what is correlated, then by operation."""
        one = self.one_token
        found = {p: r_by_operation(table, one, p, "without_context") for p in PROJECTIONS}
        suppressed = {
            f"{p}, suppression": r_by_operation(table, one, p, "without_context", "suppression") for p in PROJECTIONS
        }
        several = self.several_tokens or {}
        return {
            **found,
            **suppressed,
            "with context": r_by_operation(table, one, "plain", "with_context"),
            "several tokens": r_by_operation(table, several, "plain", "without_context"),
        }


def compare_settings(
    bench: Bench,
    relations: Sequence[Relation],
    limits: PairLimits,
    *,
    lead_ins: Sequence[str] = (),
    several_tokens: bool = False,
) -> SettingsComparison:
    """Every setting that the model can be read with, over all operations with enough pairs.

    lead_ins: texts behind which `residual` is read as well; several_tokens: also run sources of several tokens, as
    `correlation.multi_token` does. Raises MixedResults, and UserMistake for a lead-in that cannot be read.
    """
    settings = compared_settings(bench, lead_ins)  # what was asked for wrongly is refused before anything runs
    chosen, _ = one_token_pairs(relations, bench.checkpoint.vocabulary, **asdict(limits))
    running = _Running(
        dynamic_table(bench, chosen), several_token_scores(bench, chosen, limits)[0] if several_tokens else None
    )
    tables = {one.name: static_scores(bench, chosen, one) for one in settings}
    r = {name: running.r(table) for name, table in tables.items()}
    # a mixture of experts has no paper setting: the first one stands in
    base = PAPER.name if PAPER.name in r else settings[0].name
    best = best_by_operation({name: one["plain"] for name, one in r.items()}, list(running.one_token))
    rows = [
        _score(
            name,
            one,
            r[base],
            sum(winner == name for winner in best.values()),
            r_by_layer(tables[name], running.one_token),
        )
        for name, one in r.items()
    ]
    rows.sort(key=lambda row: -row.without_context["plain"])
    return SettingsComparison(tuple(rows), len(running.several_tokens) if running.several_tokens is not None else None)


def _score(
    name: str,
    ours: dict[str, dict[str, float | None]],
    paper: dict[str, dict[str, float | None]],
    best_for: int,
    by_layer: tuple[float | None, ...],
) -> SettingScore:
    leads = {p: paired_lead(ours[p], paper[p]) for p in PROJECTIONS}
    return SettingScore(
        setting=name,
        operations=sum(r is not None for r in ours["plain"].values()),
        without_context={p: mean_r(ours[p]) for p in PROJECTIONS},
        with_context=mean_r(ours["with context"]),
        suppression={p: mean_r(ours[f"{p}, suppression"]) for p in PROJECTIONS},
        lead={p: leads[p].value for p in PROJECTIONS},
        lead_low={p: leads[p].low for p in PROJECTIONS},
        lead_high={p: leads[p].high for p in PROJECTIONS},
        with_context_lead=paired_lead(ours["with context"], paper["with context"]),
        suppression_lead=paired_lead(ours["plain, suppression"], paper["plain, suppression"]),
        best_for=best_for,
        r=ours["plain"],
        by_layer=by_layer,
        several_tokens=mean_r(ours["several tokens"]) if ours["several tokens"] else None,
    )
