"""What scoring operations on a model gives: the table, how it was asked for, and what can be read from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from maps_engine.relations.encoding import TargetRule
from maps_engine.relations.thresholds import MIN_PAIRS, TAU
from maps_engine.scores.head_structure import Findings, findings
from maps_engine.scores.summary import OperationSummary, summarise
from maps_engine.scores.table import ModelScores


@dataclass(frozen=True)
class ScoreSettings:
    """How scores are asked for, beside model, operations and source representation."""

    k: int | None = None  # length of the lists; None: each operation's own
    min_pairs: int = MIN_PAIRS
    target: TargetRule = "single"
    threshold: float = TAU  # score from which a head implements an operation
    revision: str | None = None  # of a model on the hub


@dataclass(frozen=True)
class RelationResult:
    """Scores of one model, and how they were asked for."""

    settings: ScoreSettings
    scores: ModelScores

    @cached_property
    def found(self) -> Findings:
        """What the paper looks for in the table, at the threshold of the settings."""
        return findings(self.scores, self.settings.threshold)

    def summaries(self, top: int) -> tuple[OperationSummary, ...]:
        """The `top` best heads of every operation."""
        return summarise(self.scores, tau=self.settings.threshold, top=top)
