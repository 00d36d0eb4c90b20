"""One head from its rows to a description whose test is still to come.

A describer that can revise is talked with (`agent.pipeline.asking.conversation`). One that cannot (lexical) gives all
that it would say, best first, and tests choose among them. The verdict itself is left to
`agent.pipeline.final_tests`, which scores the judging pairs of many heads in one pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from agent.describers.asking.facts import told_words
from agent.describers.choosing import ChoosingDescriber
from agent.describers.protocol import RankingDescriber, RevisingDescriber
from agent.llm.token_usage import metered
from agent.pipeline.asking.conversation import Conversation
from agent.pipeline.workbench import Tell, Workbench, silent
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence, Retrieved
from agent.results.outcomes import TestResult
from agent.results.reports import HeadReport, Trace
from maps_engine.results import HeadMapping

NOT_TESTED: Final = "not tested yet"


def describe_mapping(
    bench: Workbench, mapping: HeadMapping, retrieved: tuple[Retrieved, ...], *, tell: Tell = silent
) -> HeadReport:
    """The head's description with its evidence and trace, its final test still to come. Safe to call from threads.

    Raises BudgetSpent and ModelDown; whatever else goes wrong with a language model is a failed description.
    """
    tell(f"describing with {bench.describer.name}")
    describer = bench.describer
    if isinstance(describer, RevisingDescriber):
        (said, trace), usage = metered(lambda: Conversation(bench, describer, mapping, retrieved, tell).run())
        return untested(bench, mapping, retrieved, said, replace(trace, usage=usage))
    if isinstance(describer, ChoosingDescriber):
        evidence = bench.evidence(mapping, retrieved)
        found, usage = metered(lambda: describer.choose(evidence))
        best, *others = found.ranked
        trace = Trace(conversation=found.conversation, usage=usage, seen=tuple(sorted(told_words(evidence))))
        report = untested(bench, mapping, retrieved, best, trace)
        return replace(report, alternatives=tuple(others))
    if isinstance(describer, RankingDescriber):
        best, *others = describer.ranked(bench.evidence(mapping, retrieved))
        return replace(untested(bench, mapping, retrieved, best, Trace()), alternatives=tuple(others))
    return untested(bench, mapping, retrieved, describer.describe(Evidence.of(mapping, retrieved)), Trace())


def untested(
    bench: Workbench,
    mapping: HeadMapping,
    retrieved: tuple[Retrieved, ...],
    description: HeadDescription,
    trace: Trace,
) -> HeadReport:
    """The report of a description whose final test is still to come."""
    test = TestResult("not testable", description.operation, NOT_TESTED)
    return HeadReport(mapping, retrieved, description, test, bench.provenance(mapping), trace)
