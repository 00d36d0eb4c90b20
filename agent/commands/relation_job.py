"""One run of `map-relations`: options in, scores and findings out, files written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from agent.output.relation_files import need_parquet, write_csv, write_parquet, write_text, writing
from agent.output.terminal.relation_progress import layer_bar
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.finite import finite
from maps_engine.relations.choice import choose_relations
from maps_engine.relations.encoding import TargetRule
from maps_engine.results import EngineSettings
from maps_engine.scores.head_structure import TAU
from maps_engine.scores.result import RelationResult, ScoreSettings
from maps_engine.scores.table import MIN_PAIRS, ModelScores, score_relations
from maps_engine.scores.table_json import read_scores, scores_to_json

FORMATS = ("png", "svg")


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

    def run(self) -> RelationResult:
        """Open the model and score. Mistakes in the options are found before the model is opened."""
        if not 0 < self.threshold <= 1:
            raise UserMistake("the threshold is a share of pairs", got=self.threshold, expected="above 0, at most 1")
        if self.target not in ("single", "first-token"):
            raise UserMistake("unknown rule for targets", got=self.target, expected="single or first-token")
        chosen = choose_relations(self.relations, self.pairs, k=self.k)
        asked = ScoreSettings(self.k, self.min_pairs, cast(TargetRule, self.target), self.threshold, self.revision)
        settings = EngineSettings(source=self.source)
        engine = MapsEngine.open(self.model, settings=settings, revision=self.revision, device=self.device)
        with layer_bar(f"{len(chosen)} operations", engine.shape.n_layers) as done:
            scores = score_relations(
                engine,
                chosen,
                source=self.source,
                k=self.k,
                min_pairs=self.min_pairs,
                target=asked.target,
                progress=done,
            )
        choice = engine.chooser.for_model() if self.source == "auto" and scores.scored else None
        return RelationResult(asked, scores, choice)


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

    def write(self, result: RelationResult, *, top: int) -> list[Path]:
        """Write what was asked for; returns the paths."""
        import json

        scores = result.scores
        writers: list[tuple[Path | None, Callable[[Path], None]]] = [
            (self.csv, lambda path: write_csv(scores, path)),
            (self.parquet, lambda path: write_parquet(scores, path)),
            (self.save, lambda path: write_text(json.dumps(whole_json(result), ensure_ascii=False), path)),
            (self.report, lambda path: _write_report(result, path, top)),
            (self.figures, lambda path: _write_figures(result, path, self.figure_format)),
        ]
        written = [path for path, _ in writers if path is not None]
        for path, write in writers:
            if path is not None:
                write(path)
        return written


def whole_json(result: RelationResult) -> dict[str, Any]:
    """The scores, how they were asked for, and the findings."""
    choice = None if result.choice is None else asdict(result.choice)
    extra = {"settings": asdict(result.settings), "source_choice": choice, "findings": finite(asdict(result.found))}
    return {**scores_to_json(result.scores), **extra}


def saved_or_scored(job: Job) -> ModelScores:
    """The table saved in the file that `job.model` names, or that of the model, scored now."""
    path = Path(job.model)
    if path.suffix.lower() == ".json":
        return read_scores(path, instead="Name a model instead to score it now.")
    return job.run().scores


def _write_report(result: RelationResult, path: Path, top: int) -> None:
    from agent.output.relation_report import render_report

    write_text(render_report(result, top=top), path)


def _write_figures(result: RelationResult, folder: Path, form: str) -> None:
    from agent.output.figures.files import write_figures

    with writing(folder / "figure"):
        write_figures(result.scores, result.found, folder, form=form)
