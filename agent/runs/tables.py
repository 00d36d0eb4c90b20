"""Runs to look at: list, show, compare, export, delete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, delete, select
from sqlalchemy.orm import Session, joinedload, undefer

from agent.errors import UnknownRun
from agent.runs.database import reading, writing
from agent.runs.records import DescriptionRecord, HeadRecord, RunRecord
from agent.runs.store import RunCounts, counts_in

SCORE_COLUMNS = ("scorer", "judge", "settings_hash", "score", "low", "high", "n", "swapped")


@dataclass(frozen=True)
class RunSummary:
    """One run as `headscribe runs list` and `headscribe runs show` print it; times are seconds since 1970."""

    run_id: int
    identity: str
    model: str
    fingerprint: str
    describer: str
    state: str
    started: float
    finished: float | None
    settings: dict[str, Any]
    counts: RunCounts


@dataclass(frozen=True)
class Difference:
    """A head that two runs do not describe alike; a side is None where the run has no result for it."""

    layer: int
    head: int
    first: dict[str, Any] | None
    second: dict[str, Any] | None


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    settings: dict[str, tuple[Any, Any]]  # dotted name -> both values, only where they differ
    same: int
    different: tuple[Difference, ...]  # both runs have a result
    only_in_one: tuple[Difference, ...]  # one run has none: not labelled there, so nothing differs


def list_runs(engine: Engine, *, model_id: int | None = None) -> list[RunSummary]:
    """All runs, newest first."""
    query = select(RunRecord).options(joinedload(RunRecord.model)).order_by(RunRecord.id.desc())
    if model_id is not None:
        query = query.where(RunRecord.model_id == model_id)
    with reading(engine) as session:
        return [_summary(session, run) for run in session.scalars(query).all()]


def show_run(engine: Engine, run_id: int) -> RunSummary:
    """One run. Raises UnknownRun."""
    with reading(engine) as session:
        run = session.get(RunRecord, run_id)
        if run is None:
            raise UnknownRun("no such run", got=run_id, next_step="List the runs to see their numbers.")
        return _summary(session, run)


def _summary(session: Session, run: RunRecord) -> RunSummary:
    return RunSummary(
        run_id=run.id,
        identity=run.identity,
        model=run.model.name,
        fingerprint=run.model.fingerprint,
        describer=run.describer,
        state=run.state,
        started=run.started,
        finished=run.finished,
        settings=run.settings,
        counts=counts_in(session, run.id),
    )


def export_rows(engine: Engine, run_id: int, *, with_mappings: bool = True) -> Iterator[dict[str, Any]]:
    """Every head with a result, in order of layer and head, as plain JSON values. Raises UnknownRun.

    Keys: model, fingerprint, run, layer, head, describer, status, operation, category, input_strings,
    observed_pattern, confidence, reason, reasoning, test, and with mappings: rows, suppressed_rows,
    held_out_rows, claims, retrieved, raw_reply, provenance, scores (SCORE_COLUMNS), trace (how an agent found it, or
    None).
    """
    summary = show_run(engine, run_id)
    with reading(engine) as session:
        for head in session.scalars(_done_heads(run_id, with_mappings).execution_options(yield_per=100)):
            yield _export_row(summary, head, with_mappings)


def export_head(engine: Engine, run_id: int, layer: int, head: int) -> dict[str, Any]:
    """One head as `export_rows` gives it, with mappings. Raises UnknownRun."""
    summary = show_run(engine, run_id)
    query = _done_heads(run_id, True).where(HeadRecord.layer == layer, HeadRecord.head == head)
    with reading(engine) as session:
        found = session.scalar(query)
        if found is None:
            raise UnknownRun("the run has no result for this head", got=f"run {run_id}, layer {layer}, head {head}")
        return _export_row(summary, found, True)


def _done_heads(run_id: int, with_mappings: bool) -> Select[HeadRecord]:
    query = (
        select(HeadRecord)
        .join(HeadRecord.description)
        .options(joinedload(HeadRecord.description).joinedload(DescriptionRecord.test))
        .where(HeadRecord.run_id == run_id, HeadRecord.state == "done")
        .order_by(HeadRecord.layer, HeadRecord.head)
    )
    columns = (HeadRecord.rows, HeadRecord.suppressed_rows, HeadRecord.held_out_rows)
    if not with_mappings:
        return query
    trace = joinedload(HeadRecord.description).undefer(DescriptionRecord.trace)
    scores = joinedload(HeadRecord.description).selectinload(DescriptionRecord.scores)
    return query.options(trace, scores, *(undefer(column) for column in columns))


def _export_row(summary: RunSummary, head: HeadRecord, with_mappings: bool) -> dict[str, Any]:
    said = head.description
    if said is None:
        raise UnknownRun("this head has no description", got=f"layer {head.layer}, head {head.head}")
    row: dict[str, Any] = {
        "model": summary.model,
        "fingerprint": summary.fingerprint,
        "run": summary.run_id,
        "layer": head.layer,
        "head": head.head,
        "describer": summary.describer,
        "test": said.test.details if said.test else None,
    }
    names = ["status", "operation", "category", "input_strings", "observed_pattern", "confidence"]
    names += ["reason", "reasoning"]
    if with_mappings:
        row |= {name: getattr(head, name) for name in ("rows", "suppressed_rows", "held_out_rows")}
        row["scores"] = [{name: getattr(one, name) for name in SCORE_COLUMNS} for one in said.scores]
        names += ["claims", "retrieved", "raw_reply", "provenance", "trace"]
    return row | {name: getattr(said, name) for name in names}


def compare_runs(engine: Engine, first: int, second: int) -> Comparison:
    """Settings and descriptions of two runs, head by head. Raises UnknownRun."""
    a, b = show_run(engine, first), show_run(engine, second)
    rows = [
        {(r["layer"], r["head"]): r for r in export_rows(engine, run, with_mappings=False)} for run in (first, second)
    ]
    keys = sorted(rows[0].keys() | rows[1].keys())
    pairs = [Difference(*key, rows[0].get(key), rows[1].get(key)) for key in keys]
    both = [(pair, pair.first, pair.second) for pair in pairs if pair.first and pair.second]
    different = tuple(pair for pair, one, other in both if _said(one) != _said(other))
    only_in_one = tuple(pair for pair in pairs if not (pair.first and pair.second))
    return Comparison(_differing(a.settings, b.settings), len(both) - len(different), different, only_in_one)


def _said(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("status", "operation", "input_strings", "observed_pattern"))


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    flat_a, flat_b = _flat(a), _flat(b)
    names = sorted(flat_a.keys() | flat_b.keys())
    return {n: (flat_a.get(n), flat_b.get(n)) for n in names if flat_a.get(n) != flat_b.get(n)}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        flat |= inner
    return flat


def delete_run(engine: Engine, run_id: int) -> None:
    """Remove a run with all its heads, descriptions, tests and search terms. Raises UnknownRun."""
    show_run(engine, run_id)
    with writing(engine) as session:
        session.execute(delete(RunRecord).where(RunRecord.id == run_id))
