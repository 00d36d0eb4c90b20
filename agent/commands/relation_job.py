"""One run of `map-relations`: options in, scores and findings out, files written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from agent.output.relation_files import need_parquet, write_csv, write_parquet
from agent.output.terminal.relation_progress import layer_bar
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.files import write_whole
from maps_engine.finite import finite
from maps_engine.relations.choice import choose_relations
from maps_engine.relations.encoding import TargetRule
from maps_engine.results import EngineSettings, SourceChoice
from maps_engine.scores.head_structure import TAU, Findings, findings
from maps_engine.scores.summary import OperationSummary, summarise
from maps_engine.scores.table import MIN_PAIRS, ModelScores, score_relations
from maps_engine.scores.table_json import read_scores, scores_to_json

FORMATS = ("png", "svg")


@dataclass(frozen=True)
class Result:
    """Scores of one model, and what was asked for."""

    job: Job
    scores: ModelScores
    choice: SourceChoice | None  # under "auto": how many heads read through each representation

    @cached_property
    def found(self) -> Findings:
        return findings(self.scores, self.job.threshold)

    def summaries(self, top: int) -> tuple[OperationSummary, ...]:
        """Best heads of every operation."""
        return summarise(self.scores, tau=self.job.threshold, top=top)


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

    def run(self) -> Result:
        """Open the model and score. Mistakes in the options are found before the model is opened."""
        if not 0 < self.threshold <= 1:
            raise UserMistake("the threshold is a share of pairs", got=self.threshold, expected="above 0, at most 1")
        if self.target not in ("single", "first-token"):
            raise UserMistake("unknown rule for targets", got=self.target, expected="single or first-token")
        chosen = choose_relations(self.relations, self.pairs, k=self.k)
        settings = EngineSettings(source=self.source)
        engine = MapsEngine.open(self.model, settings=settings, revision=self.revision, device=self.device)
        with layer_bar(f"{len(chosen)} operations", engine.shape.n_layers) as done:
            scores = score_relations(
                engine,
                chosen,
                source=self.source,
                k=self.k,
                min_pairs=self.min_pairs,
                target=cast(TargetRule, self.target),
                progress=done,
            )
        choice = engine.chooser.for_model() if self.source == "auto" and scores.scored else None
        return Result(self, scores, choice)


@dataclass(frozen=True)
class Outputs:
    """Files to write beside the page."""

    csv: Path | None = None
    parquet: Path | None = None
    figures: Path | None = None
    figure_format: str = "png"
    report: Path | None = None
    save: Path | None = None

    def check(self) -> None:
        """Refuse before minutes of scoring what could not be written after them."""
        if self.figure_format not in FORMATS:
            raise UserMistake("unknown format of figures", got=self.figure_format, expected=" or ".join(FORMATS))
        if self.parquet is not None:
            need_parquet()
        for path in (self.csv, self.parquet, self.report, self.save):
            if path is not None and path.is_dir():
                raise UserMistake("a folder stands where a file is to be written", got=path)
        if self.figures is not None and self.figures.exists() and not self.figures.is_dir():
            raise UserMistake("--figures names a file", got=self.figures, expected="a folder")

    def write(self, result: Result, *, top: int) -> list[Path]:
        """Write what was asked for; returns the paths. Raises FileNotWritten."""
        scores = result.scores
        writers: list[tuple[Path | None, Callable[[Path], None]]] = [
            (self.csv, lambda path: write_csv(scores, path)),
            (self.parquet, lambda path: write_parquet(scores, path)),
            (self.save, lambda path: _write_table(result, path)),
            (self.report, lambda path: _write_report(result, path, top)),
            (self.figures, lambda path: _write_figures(result, path, self.figure_format)),
        ]
        written = [path for path, _ in writers if path is not None]
        for path, write in writers:
            if path is not None:
                write(path)
        return written


def whole_json(result: Result) -> dict[str, Any]:
    """The scores, how they were asked for, and the findings."""
    job = result.job
    settings = {
        "k": job.k,
        "min_pairs": job.min_pairs,
        "target": job.target,
        "threshold": job.threshold,
        "revision": job.revision,
    }
    choice = None if result.choice is None else asdict(result.choice)
    extra = {"settings": settings, "source_choice": choice, "findings": finite(asdict(result.found))}
    return {**scores_to_json(result.scores), **extra}


def saved_or_scored(job: Job) -> ModelScores:
    """The table saved in the file that `job.model` names, or that of the model, scored now."""
    path = Path(job.model)
    if path.suffix.lower() == ".json":
        return read_scores(path, instead="Name a model instead to score it now.")
    return job.run().scores


def _write_table(result: Result, path: Path) -> None:
    write_whole(path, json.dumps(whole_json(result), ensure_ascii=False), parents=True)


def _write_report(result: Result, path: Path, top: int) -> None:
    from agent.output.relation_report import render_report

    write_whole(path, render_report(result, top=top), parents=True)


def _write_figures(result: Result, folder: Path, form: str) -> None:
    from agent.output.figures.files import write_figures

    write_figures(result.scores, result.found, folder, form=form)
