"""Descriptions of many heads: words of all rows embedded together, several replies of a language model in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass

from agent.describe import HeadSession
from agent.describers.spelling import core
from agent.errors import DescriberDown
from agent.results import HeadDescription, HeadReport, Retrieved, TestResult
from agent.token_usage import NO_USAGE, Usage, metered
from maps_engine.results import HeadMapping

FAILURES_IN_A_ROW = 20
Found = tuple[HeadMapping, tuple[Retrieved, ...]]


@dataclass(frozen=True)
class Described:
    """A head with its description, not tested yet."""

    report: HeadReport
    usage: Usage = NO_USAGE


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

    def describe(self, found: Sequence[Found]) -> Iterator[Described]:
        """Descriptions as they arrive; once `stop()` says so only those in flight.

        Raises DescriberDown after twenty failures in a row: then it is the describer, not the heads.
        """
        if not self.asks_a_model:
            yield from (self._described(mapping, retrieved) for mapping, retrieved in found)
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="describe") as pool:
            for one in _few_in_flight(pool, self._metered, found, limit=self.workers, stop=self.stop):
                self._count(one.report.description)
                yield one

    def _metered(self, found: Found) -> Described:
        described, usage = metered(lambda: self._described(*found))
        return Described(described.report, usage)

    def _described(self, mapping: HeadMapping, retrieved: tuple[Retrieved, ...]) -> Described:
        description = self.session.propose(mapping, retrieved)
        return Described(untested(mapping, retrieved, description, self.provenance(mapping)))

    def provenance(self, mapping: HeadMapping) -> dict[str, object]:
        """The session's, with why this source representation was taken."""
        choice = mapping.source_choice
        return self.session.provenance(mapping) | {"source_choice": asdict(choice) if choice else None}

    def _count(self, description: HeadDescription) -> None:
        self._failures = self._failures + 1 if description.status == "failed" else 0
        if self._failures >= FAILURES_IN_A_ROW:
            raise DescriberDown(
                f"{self._failures} descriptions in a row failed",
                got=description.reason or "no reason given",
                next_step="See to the describer and run the same command again; the heads done are kept.",
            )


def untested(
    mapping: HeadMapping,
    retrieved: tuple[Retrieved, ...],
    description: HeadDescription,
    provenance: dict[str, object],
) -> HeadReport:
    """A report whose test is still to come."""
    return HeadReport(mapping, retrieved, description, TestResult("not testable", description.operation), provenance)


def _few_in_flight(
    pool: ThreadPoolExecutor,
    work: Callable[[Found], Described],
    items: Iterable[Found],
    *,
    limit: int,
    stop: Callable[[], bool],
) -> Iterator[Described]:
    """Results in the order they come, never more than `limit` started and not finished."""
    left = iter(items)
    running: set[Future[Described]] = set()
    while True:
        while len(running) < limit and not stop():
            item = next(left, None)
            if item is None:
                break
            running.add(pool.submit(work, item))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


def _words(mappings: Iterable[HeadMapping]) -> Iterator[str]:
    """The words that embedding these mappings asks for."""
    for mapping in mappings:
        for row in mapping.rows:
            yield from filter(None, (core(row.token), *(core(target.token) for target in row.targets)))
