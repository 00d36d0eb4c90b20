"""The table of relation scores in the form people read it: best heads, suppressors and p of every operation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from maps_engine.relations.significance import Significance, corrected
from maps_engine.scores.table import ModelScores, RelationScores


@dataclass(frozen=True)
class HeadScore:
    """One head on one operation; p is corrected for having been picked out of all heads of the model."""

    layer: int
    head: int
    score: float
    p: float

    @property
    def label(self) -> str:
        """ "23.4", as papers name heads."""
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True)
class OperationSummary:
    """One operation: its strongest heads on either side, and how many reach the threshold."""

    name: str
    category: str
    description: str
    k: int
    n_pairs: int
    n_used: int
    target: str
    verdict: str
    best: tuple[HeadScore, ...] = ()
    suppressors: tuple[HeadScore, ...] = ()
    n_heads: int = 0  # at the threshold or above
    n_suppressors: int = 0
    left_out: str = ""  # reasons and numbers of pairs, in words
    own: bool = False  # the user's pairs

    @property
    def strongest(self) -> float:
        """Score of the best head; 0 when nothing was scored."""
        return self.best[0].score if self.best else 0.0


def summarise(scores: ModelScores, *, tau: float, top: int = 3) -> tuple[OperationSummary, ...]:
    """One summary an operation, by category, the strongest first; operations with too few pairs come last."""
    found = [_summary(scores, one, tau, top) for one in scores.relations]
    return tuple(sorted(found, key=lambda one: (not one.best, one.category, -one.strongest, one.name)))


def by_category(
    summaries: tuple[OperationSummary, ...],
) -> Iterator[tuple[str, tuple[OperationSummary, ...]]]:
    """Scored operations, category by category."""
    scored = [one for one in summaries if one.best]
    for category, rows in groupby(scored, key=lambda one: one.category):
        yield category, tuple(rows)


def _summary(scores: ModelScores, one: RelationScores, tau: float, top: int) -> OperationSummary:
    best = _heads(scores, one.score, one.promoting, top)
    low = _heads(scores, one.suppression, one.suppressing, top)
    return OperationSummary(
        one.name,
        one.category,
        one.description,
        one.k,
        one.n_pairs,
        one.n_used,
        one.target,
        one.verdict,
        best,
        low,
        0 if one.score is None else int((one.score >= tau).sum()),
        0 if one.suppression is None else int((one.suppression >= tau).sum()),
        one.left_out,
        one.own,
    )


def _heads(
    scores: ModelScores,
    table: Tensor | None,
    significance: Significance | None,
    top: int,
) -> tuple[HeadScore, ...]:
    if table is None:
        return ()
    found = table.flatten().sort(descending=True, stable=True)
    rows = []
    for value, index in zip(found.values[:top].tolist(), found.indices[:top].tolist(), strict=True):
        layer, head = divmod(index, scores.n_heads)
        p = float("nan") if significance is None else float(significance.p[layer, head])
        rows.append(HeadScore(layer, head, value, corrected(p, table.numel())))
    return tuple(rows)


def readable_p(p: float) -> str:
    """ "0.034", "2e-13", "<1e-99"; "1" from 0.995 on and "–" where there is none."""
    if p != p:
        return "–"
    if p < 1e-99:
        return "<1e-99"
    if p < 0.001:
        return f"{p:.0e}".replace("e-0", "e-")
    return "1" if p >= 0.995 else f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"
