"""Files of relation scores that `map-relations` writes beside its page, and the JSON of a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.output.relation_files import need_parquet, write_csv, write_parquet
from maps_engine.errors import UserMistake
from maps_engine.files import write_whole
from maps_engine.finite import finite
from maps_engine.scores.result import RelationResult
from maps_engine.scores.table_json import scores_to_json

FORMATS = ("png", "svg")


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
        """Refuse, before minutes of scoring, what could not be written after them. Raises UserMistake."""
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


def whole_json(result: RelationResult) -> dict[str, Any]:
    """The scores, how they were asked for, and the findings."""
    extra = {"settings": asdict(result.settings), "findings": finite(asdict(result.found))}
    return {**scores_to_json(result.scores), **extra}


def _write_table(result: RelationResult, path: Path) -> None:
    write_whole(path, json.dumps(whole_json(result), ensure_ascii=False), parents=True)


def _write_report(result: RelationResult, path: Path, top: int) -> None:
    from agent.output.relation_report import render_report

    write_whole(path, render_report(result, top=top), parents=True)


def _write_figures(result: RelationResult, folder: Path, form: str) -> None:
    from agent.output.figures.files import write_figures

    write_figures(result.scores, result.found, folder, form=form)
