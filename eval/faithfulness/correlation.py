"""Scores from weights (static) against scores at inference (dynamic), over all heads, operation by operation.

See docs/method.md, "The checks against the running model".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from eval.faithfulness.bench import Bench
from eval.faithfulness.dynamic_scores import DynamicScores, Projection
from eval.faithfulness.dynamic_table import DynamicTable, dynamic_table
from eval.faithfulness.running.pair_choice import ChosenPairs, TooFew, one_token_pairs, several_token_pairs
from eval.faithfulness.static_scores import PAPER, StaticSetting, static_scores
from eval.statistics.correlation import Correlation, correlate
from maps_engine.ov.pair_scores import PairScores
from maps_engine.relations.format import Relation
from maps_engine.relations.thresholds import MIN_PAIRS, TAU

MIN_SEVERAL = 10  # sources of several tokens that an operation needs


@dataclass(frozen=True)
class PairLimits:
    """The most pairs of an operation that are run, and the fewest that it needs; None for no limit."""

    max_pairs: int | None = None
    min_pairs: int = MIN_PAIRS
    k: int | None = None  # overrides the relation's own


@dataclass(frozen=True)
class RelationCorrelation:
    """One operation: correlations of static and dynamic scores over all heads, and how many heads reach tau."""

    name: str
    category: str
    paper: bool
    k: int
    pairs: int
    prompts: int
    with_context: Correlation
    without_context: Correlation
    suppression_with_context: Correlation
    suppression_without_context: Correlation
    heads_static: int  # phi >= tau
    heads_dynamic: int  # phi* without context >= tau
    heads_both: int


@dataclass(frozen=True)
class CorrelationTable:
    """All operations of one model under one setting of the engine."""

    setting: StaticSetting
    projection: Projection
    n_heads: int
    rows: tuple[RelationCorrelation, ...]
    left_out: tuple[TooFew, ...]

    def mean(self, column: str, *, paper: bool | None = None) -> float | None:
        """Mean r of a column over operations (those of the paper, or the others); None without any."""
        rows = [row for row in self.rows if paper is None or row.paper == paper]
        values = [r for row in rows if (r := getattr(row, column).r) is not None]
        return sum(values) / len(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "setting": self.setting.name,
            "static_scores": self.setting.stored_as,
            "projection": self.projection,
            "heads": self.n_heads,
            "mean_r": {column: self.mean(column) for column in COLUMNS},
            "mean_r_of_the_papers_operations": {column: self.mean(column, paper=True) for column in COLUMNS},
            "relations": [asdict(row) for row in self.rows],
            "left_out": [{"name": one.name, "why": one.why} for one in self.left_out],
        }


COLUMNS = ("without_context", "with_context", "suppression_without_context", "suppression_with_context")


def correlation(
    bench: Bench, relations: Sequence[Relation], limits: PairLimits, *, setting: StaticSetting = PAPER
) -> CorrelationTable:
    """The paper's main table: operations on sources of one token.

    Raises MixedResults where the folder holds results of other settings, and what opening the running model raises.
    """
    chosen, few = one_token_pairs(relations, bench.checkpoint.vocabulary, **asdict(limits))
    dynamic = dynamic_table(bench, chosen)
    static = static_scores(bench, chosen, setting)
    rows = [compare(one, static[one.name], dynamic[one.name]["plain"]) for one in chosen]
    return CorrelationTable(setting, "plain", _heads(bench), tuple(rows), tuple(few))


def multi_token(
    bench: Bench,
    relations: Sequence[Relation],
    limits: PairLimits,
    *,
    setting: StaticSetting = PAPER,
    min_several: int = MIN_SEVERAL,
) -> CorrelationTable:
    """Sources of several tokens, read at the last one, against the static scores of one-token sources.

    An operation needs `limits.min_pairs` one-token pairs for its static scores and `min_several` pairs with longer
    sources. Raises as `correlation` does.
    """
    single, few = one_token_pairs(relations, bench.checkpoint.vocabulary, **asdict(limits))
    dynamic, several, rare = several_token_scores(bench, single, limits, min_several=min_several)
    static = static_scores(bench, single, setting)
    rows = [compare(one, static[one.name], dynamic[one.name]["plain"]) for one in several]
    return CorrelationTable(setting, "plain", _heads(bench), tuple(rows), (*few, *rare))


def several_token_scores(
    bench: Bench, single: Sequence[ChosenPairs], limits: PairLimits, *, min_several: int = MIN_SEVERAL
) -> tuple[DynamicTable, list[ChosenPairs], list[TooFew]]:
    """phi* of the operations `single` on sources of several tokens; which had enough of them, and which had not.

    limits: of `single`; `min_several` takes the place of its fewest pairs. Raises MixedResults.
    """
    several, rare = several_token_pairs(
        [one.relation for one in single],
        bench.checkpoint.vocabulary,
        **{**asdict(limits), "min_pairs": min_several},
    )
    return dynamic_table(bench, several, kind="multi-token"), several, rare


def compare(one: ChosenPairs, static: PairScores, dynamic: DynamicScores) -> RelationCorrelation:
    """The row of one operation, from (L, H) scores under the plain projection. Raises ValueError without context."""
    without, within = dynamic.without_context, dynamic.with_context
    if within is None:
        raise ValueError("no scores with context")
    implements, does = static.score >= TAU, without.score >= TAU
    return RelationCorrelation(
        name=one.name,
        category=one.relation.category,
        paper=one.relation.paper,
        k=one.pairs.k,
        pairs=len(one.pairs.sources),
        prompts=dynamic.prompts,
        with_context=correlate(static.score, within.score),
        without_context=correlate(static.score, without.score),
        suppression_with_context=correlate(static.suppression, within.suppression),
        suppression_without_context=correlate(static.suppression, without.suppression),
        heads_static=_count(implements),
        heads_dynamic=_count(does),
        heads_both=_count(implements & does),
    )


def _count(mask: Tensor) -> int:
    return int(torch.count_nonzero(mask))


def _heads(bench: Bench) -> int:
    shape = bench.checkpoint.weights.shape
    return shape.n_layers * shape.n_heads
