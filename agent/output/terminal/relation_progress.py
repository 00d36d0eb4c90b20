"""Consoles of `map-relations`: a bar over layers on standard error, silent where that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_WIDTH = 140  # where standard output is no terminal


def output_console() -> Console:
    """Standard output; plain text of a fixed width where it is no terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


@contextmanager
def layer_bar(what: str, n_layers: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with each layer that is done."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda layer: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("layers"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=n_layers)
        yield lambda layer: bar.advance(task)
