"""Progress of long work from Python: a callback, else a bar on a terminal or in a notebook, else silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from agent.output.console import error_console

Progress = Callable[[int, int, str], None]  # (steps done, steps in all, what was done last)


@contextmanager
def shown(progress: Progress | None, what: str, total: int, *, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Hands over `step(text)`, to be called once a step."""
    if progress is not None:
        yield _counting(progress, total, done)
        return
    console = error_console()
    if not console.is_terminal and not (console.is_jupyter and find_spec("ipywidgets")):
        yield lambda _: None
        return
    from rich.progress import Progress as Bar

    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda _: bar.update(task, advance=1)


def _counting(progress: Progress, total: int, done: int) -> Callable[[str], None]:
    count = done

    def step(text: str) -> None:
        nonlocal count
        count += 1
        progress(count, total, text)

    return step
