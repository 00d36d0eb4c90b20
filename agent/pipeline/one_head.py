"""One head described and recorded: what `describe-head` and the web app's "describe" do."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from agent.checks.categories import category_of_report
from agent.pipeline.flow import Conditions, describe_heads
from agent.pipeline.request import DescribeRequest
from agent.pipeline.workbench import Tell, Workbench, open_workbench, silent
from agent.results.reports import HeadReport
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.state import finish_if_done
from agent.runs.store import open_run, store_result


@dataclass(frozen=True)
class DescribedHead:
    """A head's report with what it is recorded under; `category` is that of its operation, None where none is named."""

    report: HeadReport
    category: str | None
    card: ModelCard
    identity: RunIdentity


def describe_head(request: DescribeRequest, layer: int, head: int, *, tell: Tell = silent) -> DescribedHead:
    """What head `head` of layer `layer` does (both from 0), with evidence and test. Raises HeadscribeError."""
    tell(f"opening {request.model}")
    return describe_on(open_workbench(request, heads=[(layer, head)]), layer, head, tell=tell)


def describe_on(bench: Workbench, layer: int, head: int, *, tell: Tell = silent) -> DescribedHead:
    """The same with a model that is open already. Raises OutOfRange, and BudgetSpent where nothing could be said."""
    bench.maps.check_head(layer, head)
    found = describe_heads(bench, [(layer, head)], Conditions(tell=tell))
    if found.ended is not None:
        raise found.ended
    (report,) = found.reports
    category = category_of_report(report, bench.relations)
    return DescribedHead(report, category, ModelCard.of(bench.maps.checkpoint), bench.identity)


def record_head(database: Engine, described: DescribedHead) -> int:
    """Put the head into the run of its identity, which `label-heads` with the same settings continues.

    Returns the run's number. A head that the run has already is written anew. Raises DatabaseUnusable.
    """
    mapping = described.report.mapping
    run = open_run(database, card=described.card, identity=described.identity, heads=[(mapping.layer, mapping.head)])
    store_result(database, run.run_id, described.report, category=described.category)
    finish_if_done(database, run.run_id)  # a new head set a finished run back to running
    return run.run_id
