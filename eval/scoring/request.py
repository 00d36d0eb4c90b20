"""What `headscribe score` was asked for, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.questions.scorers import GENERATION, SCORERS
from maps_engine.errors import UserMistake

FIGURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class ScoreRequest:
    """The options of the command, as given."""

    run: int | None = None
    from_file: Path | None = None
    layer: int | None = None
    head: int | None = None
    layers: str | None = None
    heads: str | None = None
    limit: int | None = None
    scorers: str | None = None
    judge: str = "auto"
    model: str | None = None
    weights: bool = True
    items: int = 20
    seed: int = 0
    source: str = "auto"
    describer: str = "auto"
    device: str = "auto"
    database: str | None = None
    workers: int = 8
    token_budget: int | None = None
    output: tuple[Path, ...] = ()
    figure: Path | None = None
    per_head: bool = False
    as_json: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Scorers asked for; without weights, all but generation. Raises UserMistake."""
        if self.scorers is None:
            return tuple(name for name in SCORERS if self.weights or name != GENERATION)
        asked = [name.strip() for name in self.scorers.split(",") if name.strip()]
        unknown = [name for name in asked if name not in SCORERS]
        if unknown or not asked:
            raise UserMistake("no such scorer", got=", ".join(unknown) or "none", expected=", ".join(SCORERS))
        if GENERATION in asked and not self.weights:
            raise UserMistake("generation needs the weights", next_step="Leave --no-weights out, or this scorer.")
        return tuple(name for name in SCORERS if name in asked)

    def check(self) -> None:
        """Raises UserMistake for options that contradict each other and for files that cannot be written."""
        _ = self.names
        ways = [self.run is not None, self.from_file is not None, self.layer is not None]
        if sum(ways) > 1:
            raise UserMistake("too many sources of heads", expected="one of --run, --from, and --layer with --head")
        if (self.layer is None) != (self.head is None):
            raise UserMistake("one head needs both its numbers", expected="--layer and --head")
        if self.layer is not None and not self.weights:
            raise UserMistake("a head cannot be described now without weights", next_step="Leave --no-weights out.")
        for path in self.output:
            _check_path(path, (".jsonl", ".csv"))
        if self.figure is not None:
            _check_path(self.figure, FIGURES)


def _check_path(path: Path, suffixes: Sequence[str]) -> None:
    if path.suffix.lower() not in suffixes:
        raise UserMistake("unknown kind of file", got=path.name, expected=", ".join(suffixes))
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise UserMistake("this file cannot be written", got=path, expected="a file in a folder with write access")
