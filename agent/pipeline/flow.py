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

from agent.checks.choice import Tested, attempt_of, chosen, chosen_of_head
from agent.checks.new_pairs import PlannedTest, finish_test, plan_test, with_tested_rows
from agent.describers.protocol import PairProposer, RankingDescriber, RevisingDescriber
from agent.errors import BudgetSpent, DescriberDown, ModelDown
from agent.pipeline.describing import counted_evidence, describe_mapping, untested
from agent.pipeline.head_operations import supported, with_operations
from agent.pipeline.workbench import RETRIEVED, Tell, Workbench, silent
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Retrieved
from agent.results.outcomes import TestResult
from agent.results.reports import HeadReport
from agent.runs.state import HeadKey
from agent.runs.workers import KeptReply
from agent.words.spelling import core
from maps_engine.engine import MapsEngine
from maps_engine.errors import Failure
from maps_engine.fitting import seconds
from maps_engine.results import HeadMapping

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
    bench.fields.vectors(sorted(set(_words(mappings))))  # one batch, kept by the fields
    with bench.open_operations() as store:
        return [(mapping, store.retrieve(mapping, RETRIEVED)) for mapping in mappings]


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


def final_tests(bench: Workbench, described: Sequence[HeadReport], tell: Tell = silent) -> list[HeadReport]:
    """The reports with the descriptions that their tests choose, all pairs scored in one pass over the model."""
    plans = [
        [_plan(bench, report, report.description), *(_plan_counted(bench, report, said) for said in others)]
        for report, others in ((report, _alternatives(bench, report)) for report in described)
    ]
    pair_sets = [one for plan in plans for each in plan for one in each.sets]
    if pair_sets:
        tell("testing on all heads what was said")
    bench.scorer.prepare(pair_sets)
    settled = [_settled(bench, report, plan) for report, plan in zip(described, plans, strict=True)]
    return [with_operations(report, bench.relations) for report in with_tested_rows(settled, bench.scorer)]


def _settled(bench: Workbench, report: HeadReport, plans: Sequence[PlannedTest]) -> HeadReport:
    """The report with the description that its tests choose, and all operations that tests support."""
    tested = [(plan.description, finish_test(plan, bench.scorer)) for plan in plans]
    return replace(_chosen(bench, report, tested), operations=supported(tested))


def _chosen(bench: Workbench, report: HeadReport, tested: Sequence[Tested]) -> HeadReport:
    """The report with the description that its tests choose.

    What one description says stands where its test supports it, or no counted claim is supported.
    """
    if isinstance(bench.describer, RankingDescriber):
        (said, test), attempts = chosen_of_head(tested)
        trace = replace(report.trace, attempts=attempts) if attempts else report.trace
        return replace(report, description=said, test=test, trace=trace, alternatives=())
    (said, test), _ = chosen(tested[:1], ranked=False)
    report = replace(report, description=said, test=test)
    if tested[1:] and test.verdict != "supported":
        (counted, its_test), _ = chosen_of_head(tested[1:])
        if its_test.verdict == "supported":
            return _with_counted(report, counted, its_test)
    return report


def _with_counted(report: HeadReport, counted: HeadDescription, test: TestResult) -> HeadReport:
    """With a counted claim: what the language model saw, and the pairs kept for its words, do not test it."""
    attempts = (*report.trace.attempts, attempt_of(counted, test, "counted"))
    trace = replace(report.trace, attempts=attempts, seen=(), judging=None)
    return replace(report, description=counted, test=test, trace=trace)


def _alternatives(bench: Workbench, report: HeadReport) -> tuple[HeadDescription, ...]:
    """Other descriptions that are tested; a failed one stands alone, so that the head is asked about again."""
    if bench.counted is None or report.description.status == "failed":
        return report.alternatives
    ranked = bench.counted.ranked(counted_evidence(bench, report.mapping, report.retrieved))
    return tuple(one for one in ranked if one.status == "ok")


def _plan(bench: Workbench, report: HeadReport, said: HeadDescription) -> PlannedTest:
    return plan_test(
        said,
        _read_by(report, said),
        vocabulary=bench.maps.checkpoint.vocabulary,
        relations=bench.relations,
        proposer=bench.describer if isinstance(bench.describer, PairProposer) else None,
        seen=report.trace.seen,
        judging=report.trace.judging,
    )


def _plan_counted(bench: Workbench, report: HeadReport, said: HeadDescription) -> PlannedTest:
    """The test of a claim that was counted: what a language model saw or chose has no part in it."""
    mapping = _read_by(report, said)
    return plan_test(said, mapping, vocabulary=bench.maps.checkpoint.vocabulary, relations=bench.relations)


def _read_by(report: HeadReport, said: HeadDescription) -> HeadMapping:
    """What a description was read from: the head, or one of its parts."""
    return report.mapping if said.part is None else report.mapping.of_part(said.part)


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


def _words(mappings: Iterable[HeadMapping]) -> Iterator[str]:
    """The words that embedding these mappings asks for."""
    for mapping in mappings:
        for row in mapping.rows:
            yield from filter(None, (core(row.token), *(core(target.token) for target in row.targets)))
