"""Described heads as they come out of the database: the one reader of them, and their plain JSON form.

`StoredLine` is what a list says of a head; `StoredHead` adds the evidence. Exports, reports, the web app, the rating
of descriptions and their scores all read through here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import contains_eager, undefer

from agent.errors import DatabaseUnusable, UnknownRun
from agent.results.account import account
from agent.results.attention_values import attention_of, attention_values
from agent.results.descriptions import Claim
from agent.results.evidence import Retrieved
from agent.results.outcomes import HeadOperation, TestResult
from agent.results.token_values import row_values, rows_of
from agent.runs.database import reading
from agent.runs.head_rows import (
    claims_of,
    constant_of,
    constant_values,
    operation_names_of,
    operations_of,
    part_values,
    parts_of,
    retrieved_of,
    test_of,
    view_of,
    view_values,
)
from agent.runs.records import DescriptionRecord, DescriptionScoreRecord, HeadRecord, RunRecord, TestRecord
from agent.runs.state import run_record
from maps_engine.results import (
    ConstantPart,
    EngineSettings,
    HeadAttention,
    HeadMapping,
    HeadPart,
    MappingRow,
    RowsView,
)

NO_DESCRIPTION = "none"  # status of a head without a description
_SAID = ("status", "operation", "category", "input_strings", "observed_pattern", "confidence", "reason", "reasoning")
_SETTINGS = frozenset(field.name for field in fields(EngineSettings))


@dataclass(frozen=True, slots=True)
class StoredScore:
    """One automatic score of a description, 0 … 1, beside that of another head's description (`swapped`)."""

    scorer: str
    judge: str
    settings_hash: str
    score: float | None  # None where it could not be scored
    low: float | None
    high: float | None
    n: int
    swapped: float | None
    same_operation: bool = False  # the other head's description says the same
    created: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as exports hold them."""
        values = asdict(self)
        del values["same_operation"], values["created"]
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLine:
    """A head of a run and what was said of it. Without a description `status` is NO_DESCRIPTION."""

    model: str
    fingerprint: str
    run: int
    layer: int
    head: int
    describer: str
    test: TestResult | None = None
    status: str = NO_DESCRIPTION  # else one of `agent.runs.records.STATUSES`
    operation: str = ""
    category: str | None = None
    input_strings: str = ""
    observed_pattern: str = ""
    confidence: float = 0.0  # 0 … 1
    reason: str = ""
    reasoning: str = ""
    max_salience: float | None = None
    operation_names: tuple[str, ...] = ()  # that tests support, as `operation_names_of` has them
    attention: HeadAttention | None = None  # in lists without its words

    @property
    def described(self) -> bool:
        return self.status != NO_DESCRIPTION

    @property
    def verdict(self) -> str | None:
        """Of the test; None where there was none."""
        return self.test.verdict if self.test else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the place, the test, the words."""
        return self._place() | self._words()

    def _place(self) -> dict[str, Any]:
        names = ("model", "fingerprint", "run", "layer", "head", "describer")
        return {name: getattr(self, name) for name in names} | {"test": self.test.to_json() if self.test else None}

    def _words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SAID}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHead(StoredLine):
    """A head with its mapping and all evidence. `provenance` and `trace` are JSON objects, kept as they were made."""

    settings: EngineSettings  # of the mapping; its source may be "auto" while there is no description
    rows: tuple[MappingRow, ...] = ()
    suppressed_rows: tuple[MappingRow, ...] = ()
    held_out_rows: tuple[MappingRow, ...] = ()
    same_tokens: RowsView | None = None
    constant: ConstantPart | None = None
    parts: tuple[HeadPart, ...] = ()
    operations: tuple[HeadOperation, ...] = ()
    undertrained: tuple[int, ...] = ()
    scores: tuple[StoredScore, ...] = ()
    claims: tuple[Claim, ...] = ()
    retrieved: tuple[Retrieved, ...] = ()
    raw_reply: str | None = None
    provenance: Mapping[str, Any]
    trace: Mapping[str, Any] | None = None  # how an agent found the description
    created: float | None = None  # when it was described, seconds since 1970

    @property
    def source(self) -> str | None:
        """The representation that the head was read through; None where the description does not tell."""
        found: str | None = (self.provenance.get("settings") or {}).get("source")
        return found

    @property
    def mapping(self) -> HeadMapping:
        """The mapping as the engine made it."""
        names = [field.name for field in fields(HeadMapping)]  # the same here and there
        return HeadMapping(**{name: getattr(self, name) for name in names})

    @property
    def account(self) -> str:
        """What the head attends to and what it writes there, in a sentence or two."""
        return account(self.attention, self.status, self.observed_pattern)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: one line of a JSONL export."""
        rows = {name: row_values(getattr(self, name)) for name in ("rows", "suppressed_rows", "held_out_rows")}
        return (
            self._place()
            | rows
            | {"same_tokens": view_values(self.same_tokens), "constant": constant_values(self.constant)}
            | {"parts": part_values(self.parts), "undertrained": list(self.undertrained)}
            | {"account": self.account, "attention": attention_values(self.attention)}
            | {"operations": [one.to_json() for one in self.operations]}
            | {"tested_rows": self.test.rows_to_json() if self.test else []}
            | {"scores": [one.to_json() for one in self.scores]}
            | self._words()
            | {
                "claims": [asdict(one) for one in self.claims],
                "retrieved": [asdict(one) for one in self.retrieved],
                "raw_reply": self.raw_reply,
                "provenance": dict(self.provenance),
                "trace": self.trace,
            }
        )


def head_of_json(values: Mapping[str, Any]) -> StoredHead:
    """The head of one line of a JSONL export, without its test, scores and trace.

    Raises KeyError, TypeError, ValueError or AttributeError where it is no such line.
    """
    attention = values.get("attention")
    return StoredHead(
        model=values["model"],
        fingerprint=values["fingerprint"],
        run=values.get("run") or 0,
        layer=int(values["layer"]),
        head=int(values["head"]),
        describer=values["describer"],
        status=values["status"],
        operation=values["operation"],
        category=values.get("category"),
        input_strings=values["input_strings"],
        observed_pattern=values["observed_pattern"],
        confidence=values["confidence"],
        reason=values.get("reason") or "",
        rows=rows_of(values["rows"] or []),
        suppressed_rows=rows_of(values.get("suppressed_rows") or []),
        held_out_rows=rows_of(values["held_out_rows"] or []),
        same_tokens=view_of(values.get("same_tokens")),
        constant=constant_of(values.get("constant")),
        parts=parts_of(values.get("parts")),
        operations=operations_of(values.get("operations")),
        operation_names=tuple(one["operation"] for one in values.get("operations") or ()),
        undertrained=tuple(values.get("undertrained") or ()),
        attention=attention_of(int(values["layer"]), int(values["head"]), attention, attention),
        claims=claims_of(values.get("claims") or []),
        settings=_settings({"source": "first-mlp"}, values["provenance"]),
        provenance=values["provenance"],
    )


def stored_heads(engine: Engine, run_id: int) -> Iterator[StoredHead]:
    """Every head with a result, in order of layer and head. Raises UnknownRun."""
    with reading(engine) as session:
        run = run_record(session, run_id)
        for record in session.scalars(_with_result(whole_heads(run_id)).execution_options(yield_per=100)):
            yield head_of(record, run)


def stored_head(engine: Engine, run_id: int, layer: int, head: int) -> StoredHead:
    """One head with a result. Raises UnknownRun."""
    with reading(engine) as session:
        run = run_record(session, run_id)
        query = _with_result(whole_heads(run_id)).where(HeadRecord.layer == layer, HeadRecord.head == head)
        record = session.scalar(query)
        if record is None:
            raise UnknownRun("the run has no result for this head", got=f"run {run_id}, layer {layer}, head {head}")
        return head_of(record, run)


def stored_lines(engine: Engine, run_id: int, *, offset: int = 0, limit: int | None = None) -> Iterator[StoredLine]:
    """Heads with a result in order of layer and head: `limit` (None: all) from number `offset`. Raises UnknownRun."""
    with reading(engine) as session:
        run = run_record(session, run_id)
        query = _with_result(head_lines(run_id)).offset(offset).limit(limit)
        for record in session.scalars(query.execution_options(yield_per=500)):
            yield line_of(record, run)


def head_lines(run_id: int) -> Select[HeadRecord]:
    """All heads of a run in order, with what `line_of` needs."""
    return (
        select(HeadRecord)
        .outerjoin(HeadRecord.description)
        .options(contains_eager(HeadRecord.description).joinedload(DescriptionRecord.test))
        .where(HeadRecord.run_id == run_id)
        .order_by(HeadRecord.layer, HeadRecord.head)
    )


def whole_heads(run_id: int) -> Select[HeadRecord]:
    """All heads of a run in order, with what `head_of` needs."""
    description = contains_eager(HeadRecord.description)
    return head_lines(run_id).options(
        undefer(HeadRecord.rows),
        undefer(HeadRecord.suppressed_rows),
        undefer(HeadRecord.held_out_rows),
        undefer(HeadRecord.same_tokens),
        undefer(HeadRecord.constant_part),
        undefer(HeadRecord.undertrained),
        undefer(HeadRecord.parts),
        undefer(HeadRecord.attended),
        description.undefer(DescriptionRecord.trace),
        description.undefer(DescriptionRecord.operations),
        description.joinedload(DescriptionRecord.test).undefer(TestRecord.tested_rows),
        description.selectinload(DescriptionRecord.scores),
    )


def _with_result(query: Select[HeadRecord]) -> Select[HeadRecord]:
    return query.where(HeadRecord.state == "done", DescriptionRecord.id.is_not(None))


def line_of(record: HeadRecord, run: RunRecord) -> StoredLine:
    """What a list says of the head. Raises DatabaseUnusable where what is stored of it is damaged."""
    with _readable(record):
        return StoredLine(**_line_values(record, run))


def head_of(record: HeadRecord, run: RunRecord) -> StoredHead:
    """The head with everything that is stored of it. Raises DatabaseUnusable where that is damaged."""
    with _readable(record):
        return _head_of(record, run)


@contextmanager
def _readable(record: HeadRecord) -> Iterator[None]:
    """JSON columns that lack a key, or hold another kind of value, as one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatabaseUnusable(
            f"what is stored of head {record.layer}.{record.head} of run {record.run_id} is damaged",
            got=f"{type(error).__name__} {error}",
            next_step="Describe the head again, or restore the database from a backup.",
        ) from error


def _head_of(record: HeadRecord, run: RunRecord) -> StoredHead:
    said = record.description
    provenance = said.provenance if said else {}
    attention = attention_of(record.layer, record.head, record.attention, record.attended)
    head = StoredHead(
        **_line_values(record, run) | {"test": _test(said, with_rows=True), "attention": attention},
        settings=_settings(run.settings["engine"], provenance),
        rows=rows_of(record.rows or []),
        suppressed_rows=rows_of(record.suppressed_rows or []),
        held_out_rows=rows_of(record.held_out_rows or []),
        same_tokens=view_of(record.same_tokens),
        constant=constant_of(record.constant_part),
        parts=parts_of(record.parts),
        undertrained=tuple(record.undertrained or ()),
        provenance=provenance,
    )
    if said is None:
        return head
    return replace(
        head,
        scores=tuple(map(_score, said.scores)),
        claims=claims_of(said.claims),
        retrieved=retrieved_of(said.retrieved),
        raw_reply=said.raw_reply,
        trace=said.trace,
        operations=operations_of(said.operations),
        created=said.created,
    )


def _line_values(record: HeadRecord, run: RunRecord) -> dict[str, Any]:
    said = record.description
    return {
        "model": run.model.name,
        "fingerprint": run.model.fingerprint,
        "run": run.id,
        "layer": record.layer,
        "head": record.head,
        "describer": (said.provenance.get("describer") if said else None) or run.describer,
        "max_salience": record.max_salience,
        "attention": attention_of(record.layer, record.head, record.attention),
        "test": _test(said),
    } | ({name: getattr(said, name) for name in _SAID} | {"operation_names": operation_names_of(said)} if said else {})


def _test(said: DescriptionRecord | None, *, with_rows: bool = False) -> TestResult | None:
    """The test of a description; its rows are a column of their own, which lists of heads do without."""
    if said is None or said.test is None:
        return None
    return test_of(said.test.details, said.test.tested_rows if with_rows else None)


def reading_of(engine: Mapping[str, Any]) -> str:
    """For people: what the heads of a run were given to read, from its stored settings of the engine."""
    return _settings(engine, {}).reading


def _settings(of_run: Mapping[str, Any], provenance: Mapping[str, Any]) -> EngineSettings:
    """A run may say "auto"; a description knows what was chosen for its head."""
    values = {**of_run, **(provenance.get("settings") or {})}
    return EngineSettings(**{name: value for name, value in values.items() if name in _SETTINGS})


def _score(record: DescriptionScoreRecord) -> StoredScore:
    names = ("scorer", "judge", "settings_hash", "score", "low", "high", "n", "swapped", "created")
    same = bool(record.details.get("same_operation"))
    return StoredScore(**{name: getattr(record, name) for name in names}, same_operation=same)
