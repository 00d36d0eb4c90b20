"""Between the dataclasses of a head and its rows in the database, search terms included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from agent.llm.protocol import Message
from agent.llm.token_usage import Usage
from agent.results.attention_values import attention_numbers, attention_words
from agent.results.descriptions import Claim, HeadDescription
from agent.results.evidence import IntruderTest, Retrieved
from agent.results.outcomes import HeadOperation, PairTest, RowTest, TestedRow, TestResult
from agent.results.reports import NO_TRACE, Attempt, HeadReport, NamedPart, Trace, Trial
from agent.results.token_values import row_values, rows_of, scored_of, scored_values
from agent.runs.records import DescriptionRecord, HeadRecord, SearchTermRecord, TestRecord, storable
from maps_engine.qk.kinds import kinds
from maps_engine.results import ConstantPart, HeadMapping, HeadPart, PartTest, RowsView

if TYPE_CHECKING:
    from maps_engine.ov.pair_scores import PairSet

TERM_LENGTH = 120


def fold(token: str) -> str:
    """A token as search sees it: without outer spaces, casefolded, storable, at most 120 characters.

    A token of nothing but spaces keeps one, so that it can be found too.
    """
    return storable(token).strip().casefold()[:TERM_LENGTH] or " "


def folded_name(operation: str) -> str:
    """The name of an operation as search sees it: storable, casefolded, on one line."""
    return " ".join(storable(operation).casefold().split())


def put_mapping(session: Session, record: HeadRecord, mapping: HeadMapping) -> None:
    """Store the rows of `mapping` on `record` and replace its search terms."""
    record.rows = row_values(mapping.rows)
    record.suppressed_rows = row_values(mapping.suppressed_rows)
    record.held_out_rows = row_values(mapping.held_out_rows)
    record.same_tokens = view_values(mapping.same_tokens)
    record.constant_part = constant_values(mapping.constant)
    record.undertrained = list(mapping.undertrained)
    record.parts = part_values(mapping.parts)
    attention = mapping.attention
    record.attention = attention_numbers(attention) if attention else None
    record.attended = attention_words(attention) if attention else None
    record.attention_kinds = "\n".join(kinds(attention)) if attention else ""
    record.max_salience = max((row.salience for row in mapping.rows), default=None)
    terms = _terms(mapping)
    record.n_terms = sum(side != "suppressed" for side, _ in terms)
    session.execute(delete(SearchTermRecord).where(SearchTermRecord.head_id == record.id))
    values = [
        {"run_id": record.run_id, "head_id": record.id, "side": side, "term": term, "best_rank": rank}
        for (side, term), rank in terms.items()
    ]
    if values:
        session.execute(insert(SearchTermRecord), values)


def view_values(view: RowsView | None) -> dict[str, Any] | None:
    """The JSON values of a view, as `view_of` reads them."""
    return {"reading": view.reading, "rows": row_values(view.rows)} if view else None


def view_of(values: Mapping[str, Any] | None) -> RowsView | None:
    """A view from its JSON values."""
    return RowsView(values["reading"], rows_of(values["rows"])) if values else None


def constant_values(part: ConstantPart | None) -> dict[str, Any] | None:
    """The JSON values of a constant part, as `constant_of` reads them."""
    return {"share": part.share, "targets": scored_values(part.targets)} if part else None


def constant_of(values: Mapping[str, Any] | None) -> ConstantPart | None:
    """A constant part from its JSON values."""
    return ConstantPart(values["share"], scored_of(values["targets"])) if values else None


def part_values(parts: Sequence[HeadPart]) -> list[dict[str, Any]]:
    """The JSON values of the parts of a head, as `parts_of` reads them; no test reads held-out rows again."""
    return [
        {
            "share": part.share,
            "along": part.along,
            "size": part.size,
            "targets": scored_values(part.targets),
            "rows": row_values(part.rows),
            "test": asdict(part.test) if part.test else None,
        }
        for part in parts
    ]


def parts_of(values: Sequence[Mapping[str, Any]] | None) -> tuple[HeadPart, ...]:
    """Parts from their JSON values; none of heads that were stored before they were known."""
    return tuple(
        HeadPart(
            share=one["share"],
            along=one["along"],
            size=one["size"],
            targets=scored_of(one["targets"]),
            rows=rows_of(one["rows"]),
            test=PartTest(**one["test"]) if one["test"] else None,
        )
        for one in values or ()
    )


def operations_of(values: Sequence[Mapping[str, Any]] | None) -> tuple[HeadOperation, ...]:
    """What a head does, from its JSON values; nothing of heads that were stored before that was known."""
    names = ("operation", "observed_pattern", "kind", "part", "share")
    return tuple(
        HeadOperation(
            **{name: one[name] for name in names},
            test=test_of(one["test"], one["rows"]),
            joined=tuple(one.get("joined", ())),  # what was stored by earlier versions lacks these three
            describer=one.get("describer", ""),
            also=tuple(one.get("also", ())),
        )
        for one in values or ()
    )


def operation_names_of(said: DescriptionRecord) -> tuple[str, ...]:
    """What a head does by name, without its tests: the recorded operation as it is written, others as search sees them.

    Of a head that was stored before operations were known, the recorded one, where its test supports it.
    """
    recorded = folded_name(said.operation)
    supported = said.test is not None and said.test.verdict == "supported"
    lines = said.operation_names.split("\n") if said.operation_names else [recorded] * supported
    names = [line.split("\t")[0] for line in lines]
    return tuple(said.operation if name == recorded else name for name in names)


def _terms(mapping: HeadMapping) -> dict[tuple[str, str], int]:
    """(side, folded token) -> best rank of the row it stands in."""
    found: dict[tuple[str, str], int] = {}
    for rank, row in enumerate(mapping.rows):
        found.setdefault(("source", fold(row.token)), rank)
        for target in row.targets:
            found.setdefault(("target", fold(target.token)), rank)
    for rank, row in enumerate(mapping.suppressed_rows):
        for target in row.targets:
            found.setdefault(("suppressed", fold(target.token)), rank)
    return found


def claims_of(values: Sequence[dict[str, Any]]) -> tuple[Claim, ...]:
    """Claims from their JSON values."""
    return tuple(Claim(**(one | {"examples": tuple(one["examples"])})) for one in values)


def retrieved_of(values: Sequence[dict[str, Any]]) -> tuple[Retrieved, ...]:
    """Retrieved operations from their JSON values."""
    return tuple(
        Retrieved(
            one["operation"],
            one["similarity"],
            one["description"],
            tuple((source, target) for source, target in one["examples"]),
            one.get("part"),  # absent from what was stored before parts were compared
        )
        for one in values
    )


def test_of(values: Mapping[str, Any], tested_rows: Sequence[dict[str, Any]] | None) -> TestResult:
    """The test of a description from its JSON values; of what was stored before, there are no tested rows."""
    pairs, rows = values["pairs"], values["rows"]
    return TestResult(
        verdict=values["verdict"],
        operation=values["operation"],
        reason=values["reason"],
        pairs=PairTest(**pairs) if pairs else None,
        rows=RowTest(**rows) if rows else None,
        tested_rows=_tested_rows(tested_rows or ()),
    )


def _tested_rows(values: Sequence[dict[str, Any]]) -> tuple[TestedRow, ...]:
    rows = zip(values, rows_of(values), strict=True)
    return tuple(TestedRow(row, one["wanted"], one["hit"]) for one, row in rows)


def put_description(
    session: Session, record: HeadRecord, report: HeadReport, *, category: str | None, when: float
) -> None:
    """Store description and test of `report` on `record`, replacing what was there."""
    if record.description is not None:
        session.delete(record.description)
        session.flush()
    said = report.description
    texts = {
        name: storable(getattr(said, name))
        for name in ("operation", "input_strings", "observed_pattern", "reasoning", "reason")
    }
    each = [[folded_name(name) for name in one.names] for one in report.operations]
    names = "\n".join(map("\t".join, each))
    searchable = " ".join((*(texts[name] for name in ("operation", "input_strings", "observed_pattern")), names))
    record.description = DescriptionRecord(
        **texts,
        status=said.status,
        category=category,
        confidence=said.confidence,
        raw_reply=said.raw_reply or None,
        claims=[asdict(claim) for claim in said.claims],
        retrieved=[asdict(found) for found in report.retrieved],
        provenance=report.provenance.to_json() | {"describer": said.describer, "describer_settings": said.settings},
        operations=[one.to_json() for one in report.operations],
        operation_names=names,
        search_text=searchable.casefold(),
        trace=_trace_values(report.trace),
        created=when,
        test=_test_record(report),
    )


def _trace_values(trace: Trace) -> dict[str, Any] | None:
    """A trace as it is stored; None for a describer that leaves none."""
    if trace == NO_TRACE:
        return None
    judging = trace.judging
    named = [_named_values(one) for one in trace.named_parts]
    return trace.to_json() | {"judging": asdict(judging) if judging is not None else None, "named_parts": named}


def _named_values(named: NamedPart) -> dict[str, Any]:
    """What is said of a part and its pairs; settings and reply are those of the head."""
    said = asdict(named.description)
    del said["settings"], said["raw_reply"]
    return {"description": said, "judging": asdict(named.judging), "words": list(named.words)}


def trace_of(record: DescriptionRecord) -> Trace:
    """What a description that waits for its test needs of its trace: the conversation and the attempts are kept too."""
    stored = record.trace
    if not stored:
        return NO_TRACE
    intruder = stored["intruder"]
    return Trace(
        attempts=tuple(map(_attempt, stored["attempts"])),
        conversation=tuple(Message(**one) for one in stored["conversation"]),
        intruder=IntruderTest(**intruder) if intruder else None,
        seen=tuple(stored["seen"]),
        judging=judging_of(stored),
        named_parts=tuple(_named_part(one, record) for one in stored.get("named_parts", ())),
        usage=Usage(**stored["usage"]),
    )


def judging_of(trace: Mapping[str, Any] | None) -> PairSet | None:
    """The pairs that a stored trace keeps for the final test; None for a describer that leaves them to the test."""
    judging = trace.get("judging") if trace else None
    return _pair_set(judging) if judging else None


def named_part_judging(trace: Mapping[str, Any] | None, operation: str, part: int | None) -> PairSet | None:
    """The pairs that a stored trace keeps for what a language model said of a part; None where it did not say this."""
    for named in (trace or {}).get("named_parts", ()):
        if (named["description"]["operation"], named["description"]["part"]) == (operation, part):
            return _pair_set(named["judging"])
    return None


def _named_part(values: dict[str, Any], record: DescriptionRecord) -> NamedPart:
    said = values["description"]
    settings = dict(record.provenance.get("describer_settings", {}))
    said = said | {"claims": claims_of(said["claims"]), "settings": settings}
    return NamedPart(HeadDescription(**said), _pair_set(values["judging"]), tuple(values["words"]))


def _attempt(values: dict[str, Any]) -> Attempt:
    trial = values["trial"]
    if trial is not None:
        pairs = trial["pairs"]
        hits = tuple((s, t) for s, t in trial["hits"])
        misses = tuple((s, t, tuple(instead)) for s, t, instead in trial["misses"])
        trial = Trial(trial["verdict"], trial["reason"], PairTest(**pairs) if pairs else None, hits, misses)
    said = {name: value for name, value in values.items() if name not in ("decision", "trial")}
    return Attempt(HeadDescription(describer="", **said), trial, values["decision"])


def _pair_set(values: dict[str, Any]) -> PairSet:
    from maps_engine.ov.pair_scores import PairSet  # torch: only where a run is worked on

    others = tuple(values.get("others", ()))  # absent from what was stored before claims of classes
    return PairSet(tuple(values["sources"]), tuple(map(tuple, values["targets"])), values["k"], others)


def _test_record(report: HeadReport) -> TestRecord:
    test = report.test
    pairs, rows = test.pairs, test.rows
    return TestRecord(
        verdict=test.verdict,
        score=pairs.score if pairs else None,
        percentile=pairs.percentile if pairs else None,
        n=pairs.n_pairs if pairs else None,
        held_out_k=rows.held_out_k if rows else None,
        held_out_n=rows.held_out_n if rows else None,
        details=test.to_json(),
        tested_rows=test.rows_to_json(),
    )
