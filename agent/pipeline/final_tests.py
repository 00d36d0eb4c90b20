"""The tests of what was said of heads, all pairs scored in one pass over the model, and which words are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.checks.choice import Tested, attempt_of, chosen, chosen_of_head
from agent.checks.new_pairs import PlannedTest, finish_test, plan_test, with_tested_rows
from agent.describers.protocol import PairProposer, RankingDescriber
from agent.pipeline.head_operations import supported, with_operations
from agent.pipeline.workbench import Tell, Workbench, silent
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import TestResult
from agent.results.reports import HeadReport, NamedPart
from maps_engine.results import HeadMapping


def final_tests(bench: Workbench, described: Sequence[HeadReport], tell: Tell = silent) -> list[HeadReport]:
    """The reports with the descriptions that their tests choose, all pairs scored in one pass over the model."""
    plans = [
        [
            _plan(bench, report, report.description),
            *(_plan_part(bench, report, named) for named in report.trace.named_parts if named.is_of(report.mapping)),
            *(_plan_counted(bench, report, said) for said in others),
        ]
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
    report = _with_named_parts(replace(report, description=said, test=test), tested)
    if tested[1:] and test.verdict != "supported":
        (instead, its_test), _ = chosen_of_head(tested[1:])
        if its_test.verdict == "supported":
            return _with_other(report, instead, its_test)
    return report


def _with_named_parts(report: HeadReport, tested: Sequence[Tested]) -> HeadReport:
    """With the tests of what a language model says of parts among its attempts."""
    named = [one.description for one in report.trace.named_parts]
    attempts = [attempt_of(said, test, "part") for said, test in tested if any(said is one for one in named)]
    return replace(report, trace=replace(report.trace, attempts=(*report.trace.attempts, *attempts)))


def _with_other(report: HeadReport, said: HeadDescription, test: TestResult) -> HeadReport:
    """With what the language model says of a part, or with a counted claim.

    What the model saw, and the pairs kept for its words, do not test a counted claim.
    """
    trace = report.trace
    judging = next((one.judging for one in trace.named_parts if one.description is said), None)
    attempts = (*trace.attempts, attempt_of(said, test, "counted" if judging is None else "named by a part"))
    trace = replace(trace, attempts=attempts, seen=() if judging is None else trace.seen, judging=judging)
    return replace(report, description=said, test=test, trace=trace)


def _alternatives(bench: Workbench, report: HeadReport) -> tuple[HeadDescription, ...]:
    """Other descriptions that are tested; a failed one stands alone, so that the head is asked about again."""
    if bench.counted is None or report.description.status == "failed":
        return report.alternatives
    ranked = bench.counted.ranked(bench.evidence(report.mapping, report.retrieved))
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


def _plan_part(bench: Workbench, report: HeadReport, named: NamedPart) -> PlannedTest:
    """The test of what a language model says of a part, by the pairs kept for it."""
    return plan_test(
        named.description,
        _read_by(report, named.description),
        vocabulary=bench.maps.checkpoint.vocabulary,
        relations=bench.relations,
        seen=report.trace.seen,
        judging=named.judging,
    )


def _plan_counted(bench: Workbench, report: HeadReport, said: HeadDescription) -> PlannedTest:
    """The test of a claim that was counted: what a language model saw or chose has no part in it."""
    mapping = _read_by(report, said)
    return plan_test(said, mapping, vocabulary=bench.maps.checkpoint.vocabulary, relations=bench.relations)


def _read_by(report: HeadReport, said: HeadDescription) -> HeadMapping:
    """What a description was read from: the head, or one of its parts."""
    return report.mapping if said.part is None else report.mapping.of_part(said.part)
