"""Relation scores of one model: what to score, under which settings, and the result with its findings.

result = Job("smollm2-135m", relations="country-to-capital").run()
result.scores, result.found, result.summaries(top=3)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.relations.choice import choose_relations
from maps_engine.relations.encoding import TargetRule
from maps_engine.relations.thresholds import MIN_PAIRS, TAU
from maps_engine.results import EngineSettings
from maps_engine.scores.result import RelationResult, ScoreSettings
from maps_engine.scores.table import ModelScores, score_relations
from maps_engine.scores.table_json import read_scores

LayerDone = Callable[[int], None]  # called with the layer that is done
LayerBar = Callable[[str, int], AbstractContextManager[LayerDone]]  # made of what is scored and how many layers


def _no_bar(_what: str, _n_layers: int) -> AbstractContextManager[LayerDone]:
    return nullcontext(lambda _layer: None)


@dataclass(frozen=True)
class Job:
    """What to score, on which model, under which settings."""

    model: str
    revision: str | None = None
    source: str = "auto"
    relations: str | None = None
    pairs: tuple[Path, ...] = ()
    k: int | None = None
    min_pairs: int = MIN_PAIRS
    target: str = "single"
    threshold: float = TAU
    device: str = "auto"
    lead_in: tuple[str, ...] = ("",)

    def run(self, *, bar: LayerBar = _no_bar) -> RelationResult:
        """Open the model and score. Mistakes in the options are found before the model is opened.

        Raises UserMistake for a setting or a name that cannot be, and what opening the model raises.
        """
        if not 0 < self.threshold <= 1:
            raise UserMistake("the threshold is a share of pairs", got=self.threshold, expected="above 0, at most 1")
        if self.target not in ("single", "first-token"):
            raise UserMistake("unknown rule for targets", got=self.target, expected="single or first-token")
        chosen = choose_relations(self.relations, self.pairs, k=self.k)
        asked = ScoreSettings(self.k, self.min_pairs, cast(TargetRule, self.target), self.threshold, self.revision)
        settings = EngineSettings(source=self.source, lead_in=self.lead_in)
        engine = MapsEngine.open(self.model, settings=settings, revision=self.revision, device=self.device)
        with bar(f"{len(chosen)} operations", engine.shape.n_layers) as done:
            scores = score_relations(
                engine,
                chosen,
                k=self.k,
                min_pairs=self.min_pairs,
                target=asked.target,
                progress=done,
            )
        return RelationResult(asked, scores)


def saved_or_scored(job: Job, *, bar: LayerBar = _no_bar) -> ModelScores:
    """The table saved in the file that `job.model` names, or that of the model, scored now.

    Raises UserMistake for a file that holds no table.
    """
    path = Path(job.model)
    if path.suffix.lower() == ".json":
        return read_scores(path, instead="Name a model instead to score it now.")
    return job.run(bar=bar).scores
