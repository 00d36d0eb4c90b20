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
def layer_bar(what: str, n_layers: int) -> Iterator[Callable[[str, int], None]]:
    """Yields a function to call with the representation and each layer that is done."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda source, layer: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("layers"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks: dict[str, int] = {}

        def done(source: str, layer: int) -> None:
            if source not in tasks:
                tasks[source] = int(bar.add_task(f"{what} through {source}", total=n_layers))
            bar.advance(tasks[source])  # type: ignore[arg-type]

        yield done
