"""Descriptions of many heads: words of all rows embedded together, several replies of a language model in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from agent.errors import BudgetSpent, DescriberDown, ModelDown
from agent.llm.token_usage import metered
from agent.pipeline.session import HeadSession
from agent.results import HeadDescription, HeadReport, Retrieved
from agent.words.spelling import core
from maps_engine.errors import Failure
from maps_engine.results import HeadMapping

FAILURES_IN_A_ROW = 20
Found = tuple[HeadMapping, tuple[Retrieved, ...]]


@dataclass
class ManyDescriber:
    """`retrieve` and `describe` for batches of heads; counts failures over all of them."""

    session: HeadSession
    workers: int
    stop: Callable[[], bool]
    _failures: int = 0

    @property
    def asks_a_model(self) -> bool:
        """Whether a description costs more than a moment, so that it is worth keeping before its test."""
        return self.session.describer.name != "lexical"

    def retrieve(self, mappings: Sequence[HeadMapping]) -> list[Found]:
        """Known operations alike; the store is owned only meanwhile, so that other processes have their turn."""
        if not mappings:
            return []
        self.session.fields.vectors(sorted(set(_words(mappings))))  # one batch, kept by the session
        with self.session.store() as store:
            return [(mapping, self.session.retrieve(mapping, store)) for mapping in mappings]

    def describe(self, found: Sequence[Found]) -> Iterator[HeadReport]:
        """Untested reports as they arrive; once `stop()` says so only those in flight.

        Raises DescriberDown after twenty failures in a row: then it is the describer, not the heads. Raises BudgetSpent
        or ModelDown after all that were in flight.
        """
        if not self.asks_a_model:
            yield from map(self._described, found)
            return
        # made once, before there are threads
        _ = self.session.agent.graph, self.session.scorer, self.session.neighbours
        with ThreadPoolExecutor(self.workers, thread_name_prefix="describe") as pool:
            for report in _few_in_flight(pool, self._described, found, limit=self.workers, stop=self.stop):
                self._count(report.description)
                yield report

    def _described(self, found: Found) -> HeadReport:
        mapping, retrieved = found
        agent = self.session.agent
        finding, usage = metered(lambda: agent.run(mapping.layer, mapping.head, mapping=mapping, retrieved=retrieved))
        return self.session.untested(finding, usage)

    def _count(self, description: HeadDescription) -> None:
        self._failures = self._failures + 1 if description.status == "failed" else 0
        if self._failures >= FAILURES_IN_A_ROW:
            raise DescriberDown(
                f"{self._failures} descriptions in a row failed",
                got=description.reason or "no reason given",
                next_step="See to the describer and run the same command again; the heads done are kept.",
            )


def _few_in_flight(
    pool: ThreadPoolExecutor,
    work: Callable[[Found], HeadReport],
    items: Iterable[Found],
    *,
    limit: int,
    stop: Callable[[], bool],
) -> Iterator[HeadReport]:
    """Results in the order they come, never more than `limit` started and not finished.

    What ends the run for one of them (BudgetSpent, ModelDown) lets the others in flight finish first.
    """
    left = iter(items)
    running: set[Future[HeadReport]] = set()
    ended: Failure | None = None
    while True:
        while len(running) < limit and ended is None and not stop():
            item = next(left, None)
            if item is None:
                break
            running.add(pool.submit(work, item))
        if not running:
            break
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                yield future.result()
            except (BudgetSpent, ModelDown) as error:
                ended = ended or error
    if ended is not None:
        raise ended


def _words(mappings: Iterable[HeadMapping]) -> Iterator[str]:
    """The words that embedding these mappings asks for."""
    for mapping in mappings:
        for row in mapping.rows:
            yield from filter(None, (core(row.token), *(core(target.token) for target in row.targets)))
