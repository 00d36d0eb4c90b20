"""Described heads that can become items of a study, from a run or from another tool.

A head of a run also knows each of its operations that a test supports, as a description of its own: with the rows of
the parts that the operation is about, and the words of its own test.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from sqlalchemy import Engine

from agent.results.outcomes import HeadOperation, TestResult
from agent.runs.stored import StoredHead, stored_heads
from eval.errors import BadImport
from maps_engine.results import MappingRow

MAX_ROWS: Final = 30
MAX_TARGETS: Final = 5
MAX_TESTED_TARGETS: Final = 10  # of words that a description was tested on: as many as its test looks at
_ORIGIN: Final = ("model", "fingerprint", "layer", "head", "run", "describer", "category", "operation")
_SAID, _LEXICAL = "said", "lexical"  # a claim in a describer's own words; who counts all other claims

Row: TypeAlias = dict[str, Any]  # {"source": str, "targets": [str, …]}


@dataclass(frozen=True)
class Head:
    """A described head that can become an item."""

    rows: tuple[Row, ...]
    description: dict[str, str]  # input_strings, observed_pattern
    origin: dict[str, Any]  # model, fingerprint, layer, head, run, describer, category, operation; part and claim
    tested: tuple[Row, ...] = ()  # of words that the description was tested on
    tested_ids: tuple[int, ...] = ()  # tokens of `tested`
    operations: tuple[Head, ...] = ()  # the same head, with each thing that a test supports as its description
    does: frozenset[str] = frozenset()  # all that the head is known to do, as `says` has it

    @property
    def layer(self) -> int:
        return int(self.origin["layer"])

    @property
    def key(self) -> str:
        """The head itself, whatever describes it: for the order of things and for swaps."""
        return f"{self.origin['fingerprint']}/{self.layer}/{self.origin['head']}"

    @property
    def says(self) -> frozenset[str]:
        """The operation and the sentence of this description, casefolded."""
        return _folded(str(self.origin.get("operation") or ""), self.description["observed_pattern"])


def _folded(*texts: str) -> frozenset[str]:
    return frozenset(text.casefold().strip() for text in texts) - {""}


def by_operation(heads: Sequence[Head]) -> list[Head]:
    """Each head once for each operation that a test supports; as it is where there is none."""
    return [_with_category(one) for head in heads for one in head.operations or (head,)]


def _with_category(head: Head) -> Head:
    """Only the recorded operation's category is stored."""
    if head.origin["category"] or not head.origin["operation"]:
        return head
    from agent.checks.categories import built_in_category  # torch: only for studies of all operations

    return replace(head, origin=head.origin | {"category": built_in_category(head.origin["operation"])})


def described_heads(engine: Engine, run_id: int) -> list[Head]:
    """The heads of a run whose description is `ok`. Raises UnknownRun."""
    return [_head_of(one) for one in stored_heads(engine, run_id) if one.status == "ok"]


def heads_from_jsonl(lines: Iterable[str]) -> list[Head]:
    """Heads from another tool: one object a line with model, layer, head, rows and a description.

    `rows` are `{"token": …, "targets": […]}` with targets as texts or `{"token": …}`; the description is
    `observed_pattern` (with `input_strings`) or one text `description`. Raises BadImport with the line.
    """
    heads = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            heads.append(_imported(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadImport(
                f"line {number} is not a described head",
                got=f"{type(error).__name__}: {error}",
                expected="an object with model, layer, head, rows, and description or observed_pattern",
            ) from error
    return heads


def _head_of(stored: StoredHead) -> Head:
    description = {"input_strings": stored.input_strings, "observed_pattern": stored.observed_pattern}
    origin = {name: getattr(stored, name) for name in _ORIGIN}
    all_said = [text for one in stored.operations for text in (*one.names, one.observed_pattern)]
    does = _folded(stored.operation, stored.observed_pattern, *all_said)
    head = Head(_rows(stored.rows), description, origin, *_tested(stored.test), does=does)
    return replace(head, operations=tuple(_of_operation(head, stored, one) for one in stored.operations))


def _of_operation(head: Head, stored: StoredHead, one: HeadOperation) -> Head:
    """The head as one of its operations describes it. `part` counts from 0, as in exports of the run."""
    recorded = one.operation == stored.operation
    rows = _rows([row for place in one.parts for row in stored.parts[place].rows])
    tested, tested_ids = _tested(one.test)
    about = {"operation": one.operation, "part": one.part, "claim": one.kind}
    if not recorded:
        before = stored.describer if one.kind == _SAID else _LEXICAL  # of what was stored before it was kept
        about |= {"category": None, "describer": one.describer or before}
    return replace(
        head,
        rows=rows or head.rows,
        description={
            "input_strings": stored.input_strings if recorded else "",
            "observed_pattern": one.observed_pattern,
        },
        origin=head.origin | about,
        tested=tested,
        tested_ids=tested_ids,
    )


def _rows(rows: Sequence[MappingRow]) -> tuple[Row, ...]:
    return tuple(_row(row.token, [target.token for target in row.targets]) for row in rows[:MAX_ROWS])


def _tested(test: TestResult | None) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    """The words that a description was tested on, as rows and as tokens."""
    rows = [one.row for one in test.tested_rows] if test else []
    return tuple(map(row_of, rows)), tuple(row.token_id for row in rows)


def _imported(given: dict[str, Any]) -> Head:
    text = given.get("observed_pattern") or given["description"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the description must be a text")
    origin = {
        "model": str(given["model"]),
        "fingerprint": str(given.get("fingerprint", given["model"])),
        "layer": int(given["layer"]),
        "head": int(given["head"]),
        "run": given.get("run"),
        "describer": str(given.get("describer", "imported")),
        "category": given.get("category"),
        "operation": str(given.get("operation", "")),
    }
    rows = [_row(str(row["token"]), [_token(target) for target in row["targets"]]) for row in given["rows"]]
    description = {"input_strings": str(given.get("input_strings", "")), "observed_pattern": text}
    return Head(tuple(rows[:MAX_ROWS]), description, origin)


def row_of(row: MappingRow) -> Row:
    """A row of a tested word as a rater sees it."""
    return {"source": row.token, "targets": [target.token for target in row.targets[:MAX_TESTED_TARGETS]]}


def _row(token: str, targets: list[str]) -> Row:
    return {"source": token, "targets": targets[:MAX_TARGETS]}


def _token(given: str | dict[str, Any]) -> str:
    return given if isinstance(given, str) else str(given["token"])
