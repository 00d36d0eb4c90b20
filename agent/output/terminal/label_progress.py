"""Progress of `label-heads` on standard error: a bar on a terminal, elsewhere a line every half minute at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from agent.llm.token_usage import NO_USAGE, Usage
from agent.output.console import error_console, inert
from agent.pipeline.worker import Event, HeadDone, Stage
from agent.runs.state import RunCounts

_SHOWN = {"ok": "named"}  # as the summary says it
LINE_EVERY = 30.0  # seconds between lines where there is no terminal


@dataclass
class Tally:
    """Heads done so far and how fast; `clock` is for tests."""

    before: RunCounts
    price: tuple[float, float] | None = None  # for a million tokens read, and written
    clock: Callable[[], float] = time.monotonic
    usage: Usage = NO_USAGE
    by_status: dict[str, int] = field(default_factory=dict)
    stage: str = ""

    def __post_init__(self) -> None:
        self._started = self.clock()
        self.by_status = {name: getattr(self.before, name) for name in ("ok", "unclear", "failed")}

    def add(self, event: Event) -> None:
        """Count a head, or note what is being done."""
        if isinstance(event, HeadDone):
            self.by_status[event.status] = self.by_status.get(event.status, 0) + 1
            self.usage += event.usage
        else:
            self.stage = event.text

    @property
    def done(self) -> int:
        return sum(self.by_status.values())

    @property
    def per_minute(self) -> float:
        """Heads a minute since the start of this call."""
        passed = self.clock() - self._started
        return 60 * (self.done - self.before.done) / passed if passed > 0 else 0.0

    def line(self) -> str:
        """`36 of 270 heads: 20 named, 15 unclear, 1 failed; 41 a minute, about 6 min left; 12k tokens, 0.03`."""
        shown = [(n, _SHOWN.get(name, name)) for name, n in self.by_status.items() if n or name != "failed"]
        counted = ", ".join(f"{n} {name}" for n, name in shown)
        parts = [f"{self.done} of {self.before.total} heads: {counted}"]
        rate = self.per_minute
        if rate > 0:
            left = (self.before.total - self.done) / rate
            parts.append(f"{rate:.0f} a minute" + (f", about {readable_time(60 * left)} left" if left > 0 else ""))
        tokens = self.usage.tokens
        if tokens:
            cost = self.usage.cost(self.price)
            guessed = f" ({self.usage.estimated} requests estimated)" if self.usage.estimated else ""
            parts.append(f"{tokens:,} tokens{guessed}" + (f", cost {cost:.2f}" if cost is not None else ""))
        return "; ".join(parts)


def readable_time(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def shown_progress(tally: Tally, *, console: Console | None = None) -> Iterator[Callable[[Event], None]]:
    """A function to call with every event; shows the tally as suits the console."""
    err = console or error_console()
    if err.is_terminal:
        with _bar(err) as bar:
            task = bar.add_task("", total=tally.before.total, completed=tally.before.done, stage="")
            yield lambda event: _on_terminal(bar, task, tally, event)
    else:
        yield _Lines(tally, err)
        err.print(inert(tally.line()))


def _bar(err: Console) -> Progress:
    words = TextColumn("{task.description}", markup=False)
    stage = TextColumn("{task.fields[stage]}", markup=False, style="dim")
    return Progress(BarColumn(bar_width=24), MofNCompleteColumn(), words, stage, console=err, transient=True)


def _on_terminal(bar: Progress, task: TaskID, tally: Tally, event: Event) -> None:
    tally.add(event)
    words = tally.line().split(" heads: ", 1)[1]
    bar.update(task, completed=tally.done, description=words, stage=inert(tally.stage).plain)


class _Lines:
    """At most a line every `LINE_EVERY` seconds."""

    def __init__(self, tally: Tally, err: Console) -> None:
        self._tally, self._err, self._last = tally, err, tally.clock()

    def __call__(self, event: Event) -> None:
        self._tally.add(event)
        now = self._tally.clock()
        # heads are recorded batch by batch: a line amid a batch's results would misjudge the rate
        if isinstance(event, Stage) and now - self._last >= LINE_EVERY:
            self._last = now
            self._err.print(inert(f"{self._tally.line()}; {event.text}"))
