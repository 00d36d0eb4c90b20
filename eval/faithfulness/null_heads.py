"""How often the lexical describer names a head that does nothing, and how often the test supports the name.

The same pipeline, describer and test run over all heads of the model and over as many null heads
(`maps_engine.null_heads`): what it says of the latter is what it would say of noise. Null heads are tested among null
heads, which is kinder to a name than the real model's heads would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from agent.checks.claims import claim_of
from agent.checks.new_pairs import HIGH, count_rows, percentile_needed, verdict_of
from agent.pipeline.flow import describe_heads
from agent.pipeline.request import HEADS_AT_ONCE, DescribeRequest
from agent.pipeline.workbench import equip
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import PairTest, Verdict
from agent.results.reports import HeadReport
from eval.faithfulness.bench import Bench
from maps_engine.engine import MapsEngine
from maps_engine.null_heads import null_checkpoint
from maps_engine.relations.catalogue import Relation, load_relations
from maps_engine.results import EngineSettings

KIND: Final = "null-heads"
SETS: Final = ("real", "null")
TRIED: Final = (90.0, 95.0, 96.0, 97.0, 98.0, 99.0, 99.5)  # percentiles asked of claims of classes


def null_heads(bench: Bench, *, seed: int = 0, settings: EngineSettings | None = None) -> dict[str, Any]:
    """Heads, operations and parts named, by set and half of the layers, as JSON values. Raises HeadscribeError."""
    n_layers = bench.checkpoint.weights.shape.n_layers
    relations = load_relations()
    rows, curve, operations = [], [], {}
    for name in SETS:
        reports = _described(bench, name, seed, settings or EngineSettings())
        for half, upper in (("lower", False), ("upper", True)):
            of_half = [one for one in reports if (one.mapping.layer >= n_layers // 2) == upper]
            rows.append({"set": name, "half": half, **_counted(of_half)})
            curve += [{"set": name, "half": half, **one} for one in _curve(of_half, relations)]
        named = Counter(one.description.operation for one in reports if one.description.status == "ok")
        operations[name] = dict(named.most_common())
    return {"describer": "lexical", "seed": seed, "rates": rows, "curve": curve, "operations": operations}


def _described(bench: Bench, name: str, seed: int, settings: EngineSettings) -> Sequence[HeadReport]:
    checkpoint = bench.checkpoint if name == "real" else null_checkpoint(bench.checkpoint, seed=seed)
    request = DescribeRequest(model=bench.checkpoint.name, settings=settings, describer="lexical", attention=False)
    # what is kept on disk is kept under the real model's fingerprint
    request = replace(request, use_cache=name == "real")
    workbench, shape = equip(MapsEngine(checkpoint, settings), request), checkpoint.weights.shape
    keys = [(layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)]
    reports: list[HeadReport] = []
    for start in range(0, len(keys), HEADS_AT_ONCE):
        bench.progress(f"{name} heads", start, len(keys))
        with bench.timed(f"{name} heads"):
            reports += describe_heads(workbench, keys[start : start + HEADS_AT_ONCE]).reports
    bench.progress(f"{name} heads", len(keys), len(keys))
    return reports


def _counted(reports: Sequence[HeadReport]) -> dict[str, Any]:
    named = [one for one in reports if one.description.status == "ok"]
    verdicts = Counter(one.test.verdict for one in named)
    of_parts = {(r.mapping.layer, r.mapping.head, o.part) for r in reports for o in r.operations if o.kind == "part"}
    return {
        "heads": len(reports),
        "named": len(named),
        "supported": verdicts["supported"],
        "weak": verdicts["weak"],
        "operations": sum(len(one.operations) for one in reports),
        "parts": sum(len(one.mapping.parts) for one in reports),
        "parts_named": len(of_parts),
    }


def _curve(reports: Sequence[HeadReport], relations: Sequence[Relation]) -> list[dict[str, Any]]:
    """Heads with a supported claim, by the percentile among the other heads that is asked of claims of classes."""
    largest = [list(_largest_percentiles(one, relations)) for one in reports]
    return [
        {"percentile": asked, "supported": sum(any(asked <= most for most in own) for own in largest)}
        for asked in TRIED
    ]


def _largest_percentiles(report: HeadReport, relations: Sequence[Relation]) -> Iterator[float]:
    """For each claim that can be supported: the largest percentile that may be asked of claims of classes."""
    for said, verdict, pairs in _tested(report):
        claim = claim_of(said, relations)
        if percentile_needed(claim) == HIGH or claim is None:
            if verdict == "supported":
                yield 100.0
            continue
        read = report.mapping if said.part is None else report.mapping.of_part(said.part)
        if verdict_of(pairs, count_rows(claim, read), percentile=0.0) == "supported":
            yield pairs.percentile


def _tested(report: HeadReport) -> Iterator[tuple[HeadDescription, Verdict, PairTest]]:
    """Description, verdict and scores of all that was tested; of one claim alone there are no attempts."""
    for attempt in report.trace.attempts:
        if attempt.trial is not None and attempt.trial.pairs is not None:
            yield attempt.description, attempt.trial.verdict, attempt.trial.pairs
    if not report.trace.attempts and report.test.pairs is not None:
        yield replace(report.description, operation=report.test.operation), report.test.verdict, report.test.pairs
