"""Runs to look at: list, show, compare, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session, joinedload

from agent.runs.database import reading, writing
from agent.runs.records import RunRecord
from agent.runs.state import RunCounts, counts_in, run_record
from agent.runs.stored import StoredLine, stored_lines


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
    first: StoredLine | None
    second: StoredLine | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        sides = {"first": self.first, "second": self.second}
        heads = {name: one.to_json() if one else None for name, one in sides.items()}
        return {"layer": self.layer, "head": self.head} | heads


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    settings: dict[str, tuple[Any, Any]]  # dotted name -> both values, only where they differ
    same: int
    different: tuple[Difference, ...]  # both runs have a result
    only_in_one: tuple[Difference, ...]  # one run has none: not labelled there, so nothing differs

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "settings": self.settings,
            "same": self.same,
            "different": [one.to_json() for one in self.different],
            "only_in_one": [one.to_json() for one in self.only_in_one],
        }


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
        return _summary(session, run_record(session, run_id))


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


def compare_runs(engine: Engine, first: int, second: int) -> Comparison:
    """Settings and descriptions of two runs, head by head. Raises UnknownRun."""
    a, b = show_run(engine, first), show_run(engine, second)
    lines = [{(one.layer, one.head): one for one in stored_lines(engine, run)} for run in (first, second)]
    keys = sorted(lines[0].keys() | lines[1].keys())
    pairs = [Difference(*key, lines[0].get(key), lines[1].get(key)) for key in keys]
    both = [(pair, pair.first, pair.second) for pair in pairs if pair.first and pair.second]
    different = tuple(pair for pair, one, other in both if _said(one) != _said(other))
    only_in_one = tuple(pair for pair in pairs if not (pair.first and pair.second))
    return Comparison(_differing(a.settings, b.settings), len(both) - len(different), different, only_in_one)


def _said(one: StoredLine) -> tuple[str, ...]:
    return one.status, one.operation, one.input_strings, one.observed_pattern


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
