"""The pipeline: map → retrieve → propose → try and revise → test, over a list of heads.

`describe-head` (one head), `label-heads` (batches of a run) and the web app all go through `describe_heads`; what they
do with the reports, and how they record them, is theirs (`agent.pipeline.one_head`, `agent.pipeline.worker`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Final

from agent.describers.asking.facts import parts_to_tell
from agent.describers.asking.part_names import PART_ROWS
from agent.describers.protocol import PartNamer, RankingDescriber, RevisingDescriber
from agent.errors import BudgetSpent, DescriberDown, ModelDown
from agent.operations.store import KnownOperationStore
from agent.pipeline.describing import describe_mapping, untested
from agent.pipeline.final_tests import final_tests
from agent.pipeline.workbench import RETRIEVED, RETRIEVED_OF_PART, Tell, Workbench, silent
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence, Retrieved
from agent.results.reports import HeadReport
from agent.runs.state import HeadKey
from agent.runs.workers import KeptReply
from agent.words.spelling import core
from maps_engine.engine import MapsEngine
from maps_engine.errors import Failure
from maps_engine.fitting import seconds
from maps_engine.results import HeadMapping, MappingRow

FAILURES_IN_A_ROW: Final = 20
Found = tuple[HeadMapping, tuple[Retrieved, ...]]
Stop = Callable[[], bool]


def never() -> bool:
    """The `Stop` of a caller who waits for the end."""
    return False


@dataclass
class FailureStreak:
    """Failed descriptions in a row, over all batches of a worker."""

    length: int = 0

    def count(self, description: HeadDescription) -> None:
        """Raises DescriberDown at the twentieth: then it is the describer that fails, not the heads."""
        self.length = self.length + 1 if description.status == "failed" else 0
        if self.length >= FAILURES_IN_A_ROW:
            raise DescriberDown(
                f"{self.length} descriptions in a row failed",
                got=description.reason or "no reason given",
                next_step="See to the describer and run the same command again; the heads done are kept.",
            )


@dataclass(frozen=True)
class Described:
    """Tested reports of the heads that could be described; `ended` is what stopped the work before the others."""

    reports: tuple[HeadReport, ...]
    ended: Failure | None = None


@dataclass(frozen=True)
class Conditions:
    """How a list of heads is worked on, besides what is said of them."""

    workers: int = 1  # replies of a language model in flight
    tell: Tell = silent
    stop: Stop = never  # what is in flight is finished first
    kept: Mapping[HeadKey, KeptReply] = field(default_factory=dict)  # descriptions that need their test alone
    keep: Callable[[HeadReport], object] = lambda _: None  # called with each new description before its test
    streak: FailureStreak = field(default_factory=FailureStreak)


def describe_heads(bench: Workbench, heads: Sequence[HeadKey], conditions: Conditions | None = None) -> Described:
    """All steps for `heads`, in their order; with `stop`, as many as were begun.

    Raises DescriberDown, ModelDown and whatever the engine, the store or the describer cannot do (HeadscribeError).
    """
    given = conditions or Conditions()
    mappings = map_heads(bench, heads, given)
    known = [(m, given.kept[m.layer, m.head]) for m in mappings if (m.layer, m.head) in given.kept]
    described = [untested(bench, m, kept.retrieved, kept.description, kept.trace) for m, kept in known]
    found = retrieve(bench, [m for m in mappings if (m.layer, m.head) not in given.kept], given.tell)
    ended: Failure | None = None
    try:
        for report in propose(bench, found, given):
            if report.description.status != "failed":
                given.keep(report)
            described.append(report)
    except BudgetSpent as error:  # what came is tested and can be recorded
        ended = error
    return Described(tuple(final_tests(bench, described, given.tell)), ended)


def map_heads(bench: Workbench, heads: Sequence[HeadKey], conditions: Conditions) -> list[HeadMapping]:
    """Salient tokens and their mappings, layer by layer; then the same tokens as the truest reading has them."""
    by_layer: dict[int, list[int]] = defaultdict(list)
    for layer, head in heads:
        by_layer[layer].append(head)
    mappings: list[HeadMapping] = []
    bench.maps.passed = lambda done, wanted: conditions.tell(f"reading the residual stream: block {done} of {wanted}")
    for layer, wanted in by_layer.items():
        if conditions.stop():
            break
        told = f" ({said_reading(bench.maps, layer)})" if len(heads) == 1 else ""
        conditions.tell(f"reading layer {layer}{told}")
        mappings += bench.maps.with_parts(list(bench.maps.map_heads([layer], heads=wanted)))  # while X is held
    with bench.scorer.lock:
        if bench.attention is not None:
            mappings = bench.attention.with_attention(
                mappings,
                lambda done, wanted: conditions.tell(f"reading what heads attend to: layer {done} of {wanted}"),
                whole=len(heads) > 1,  # further batches will ask for later layers
            )
        return bench.maps.with_same_tokens(mappings)


def said_reading(maps: MapsEngine, layer: int) -> str:
    """What heads up to `layer` are given to read, its price where it has one, and the reading that has none."""
    said = f"heads read: {maps.settings.reading}"
    if maps.settings.source != "residual":
        return said
    if maps.at("residual").keeps(layer):
        return f"{said} (kept from before)"
    price = seconds(maps.settings, maps.checkpoint, layer=layer)
    return f"{said}; about {price:.0f} s the first time (weights alone, less true: --source paper)"


def retrieve(bench: Workbench, mappings: Sequence[HeadMapping], tell: Tell = silent) -> list[Found]:
    """Known operations whose mappings are alike; the store is owned only meanwhile: other processes have their turn."""
    if not mappings:
        return []
    tell("looking for known operations alike")
    named = bench.describer.most_parts if isinstance(bench.describer, PartNamer) else 0
    parts = [[part.rows[:PART_ROWS] for part in parts_to_tell(Evidence.of(mapping), named)] for mapping in mappings]
    words = _words([*(mapping.rows for mapping in mappings), *(rows for own in parts for rows in own)])
    bench.fields.vectors(sorted(set(words)))  # one batch, kept by the fields
    with bench.open_operations() as store:
        return [
            (mapping, (*store.retrieve(mapping, RETRIEVED), *_of_parts(store, own)))
            for mapping, own in zip(mappings, parts, strict=True)
        ]


def _of_parts(store: KnownOperationStore, parts: Sequence[Sequence[MappingRow]]) -> Iterator[Retrieved]:
    """Known operations whose mappings are like the rows of a part that a describer is shown, with its place."""
    for place, rows in enumerate(parts):
        pairs = [(row.token, [target.token for target in row.targets]) for row in rows]
        yield from (replace(one, part=place) for one in store.retrieve_pairs(pairs, RETRIEVED_OF_PART))


def propose(bench: Workbench, found: Sequence[Found], conditions: Conditions) -> Iterator[HeadReport]:
    """Untested reports as they arrive; once `stop()` says so only those in flight.

    Raises DescriberDown after twenty failures in a row; BudgetSpent or ModelDown after all that were in flight.
    """
    if not found:
        return
    tell = conditions.tell if len(found) == 1 else silent  # the steps of several heads at once would be mixed up
    if len(found) > 1:
        conditions.tell(f"describing with {bench.describer.name}")

    def describe(one: Found) -> HeadReport:
        return describe_mapping(bench, *one, tell=tell)

    if isinstance(bench.describer, RankingDescriber | RevisingDescriber) and not bench.catalogue.is_scored:
        conditions.tell("scoring known operations on all heads, once for this model")
        bench.catalogue.of_head(0, 0)
        conditions.tell(f"describing with {bench.describer.name}")
    if bench.describer.name == "lexical":  # a moment a head, all of it computing: threads would not help
        yield from map(describe, found)
        return
    with ThreadPoolExecutor(conditions.workers, thread_name_prefix="describe") as pool:
        for report in _few_in_flight(pool, describe, found, limit=conditions.workers, stop=conditions.stop):
            conditions.streak.count(report.description)
            yield report


def _few_in_flight(
    pool: ThreadPoolExecutor,
    work: Callable[[Found], HeadReport],
    items: Iterable[Found],
    *,
    limit: int,
    stop: Stop,
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


def _words(mappings: Iterable[Sequence[MappingRow]]) -> Iterator[str]:
    """The words that embedding the rows of these mappings asks for."""
    for rows in mappings:
        for row in rows:
            yield from filter(None, (core(row.token), *(core(target.token) for target in row.targets)))
