"""One HTML file with everything of a run: the map of heads, coverage, operations, search, every head's evidence.

The heads stand in the page as JSON in which `<`, `>` and `&` are escaped, so nothing in it can end its element; the
script writes texts by `textContent` alone.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from sqlalchemy import Engine

from agent.output.pages import date_time, report_html
from agent.output.tokens import SHOWN_CHARACTERS
from agent.results.outcomes import HeadOperation, TestedRow, TestResult
from agent.runs.stored import StoredHead, reading_of, stored_heads
from agent.runs.tables import RunSummary, show_run
from maps_engine.checkpoints.token_spelling import visible
from maps_engine.qk.kinds import sentence
from maps_engine.results import ConstantPart, HeadPart, MappingRow, RowsView

SUPPRESSED_ROWS = 10
PART_WORDS = 8


@dataclass(frozen=True)
class RunTexts:
    """What the page says of the run as a whole; `categories` and `verdicts` are the choices of its filters."""

    model: str
    about: str
    footer: str
    totals: tuple[tuple[str, int], ...]
    categories: tuple[tuple[str, str], ...]
    verdicts: tuple[tuple[str, str], ...]


def write_report(engine: Engine, run_id: int, path: Path) -> int:
    """Write the page of a run; returns the number of heads in it. Raises UnknownRun."""
    summary = show_run(engine, run_id)
    heads = [head_values(head) for head in stored_heads(engine, run_id)]
    path.write_text(report_page(summary, heads), encoding="utf-8")
    return len(heads)


def report_page(summary: RunSummary, heads: Sequence[Mapping[str, Any]]) -> str:
    """The page around `heads`, each as `head_values` gives it."""
    n_heads = 1 + max((head["head"] for head in heads), default=-1)
    data = embedded_json({"n_heads": n_heads, "heads": heads})
    return report_html("run.html", script="run.js", run=run_texts(summary, heads), data=Markup(data))


def embedded_json(values: object) -> str:
    """JSON that is inert inside a <script> element: ASCII, no `<`, `>` or `&`."""
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def run_texts(summary: RunSummary, heads: Sequence[Mapping[str, Any]]) -> RunTexts:
    """Title, totals and footer from the run's record."""
    counts = summary.counts
    when = date_time(summary.finished or summary.started)
    state = "" if counts.done == counts.total else f" Not finished: {counts.done} of {counts.total} heads are done."
    return RunTexts(
        model=visible(summary.model),
        about=f"Described by {visible(summary.describer)}; heads read: "
        f"{visible(reading_of(summary.settings['engine']))}, {when}.{state}",
        footer=f"headscribe, run {summary.run_id}, identity {summary.identity[:16]}, "
        f"checkpoint {summary.fingerprint[:16]}, prompts {summary.settings['prompt_hash'][:12]}. "
        "Layers and heads count from 0; ␣ is a space.",
        totals=_totals(heads),
        categories=_choices(head["category"] for head in heads),
        verdicts=_choices(head["verdict"] for head in heads if head["status"] == "ok"),
    )


def _totals(heads: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, int], ...]:
    states = Counter(head["status"] for head in heads)
    supported = sum(head["status"] == "ok" and head["verdict"] == "supported" for head in heads)
    return (
        ("heads", len(heads)),
        ("named", states["ok"]),
        ("supported by test", supported),
        ("unclear", states["unclear"]),
        ("failed", states["failed"]),
    )


def _choices(values: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((value, visible(value)) for value in sorted(set(values) - {""}))


def head_values(head: StoredHead) -> dict[str, Any]:
    """What the page shows of one head."""
    return {
        "layer": head.layer,
        "head": head.head,
        "status": head.status,
        "operation": _line(head.operation),
        "category": head.category or "",
        "inputs": _line(head.input_strings),
        "pattern": _line(head.observed_pattern),
        "reason": _line(head.reason),
        "reasoning": _line(head.reasoning),
        "confidence": _number(head.confidence),
        "verdict": head.verdict or "not testable",
        "test": _test_words(head.test) if head.test else "",
        "source": head.source or "",
        "retrieved": [[_line(one.operation), _number(one.similarity)] for one in head.retrieved if one.part is None],
        "rows": [_row(one) for one in head.rows],
        "same_tokens": _view(head.same_tokens),
        "constant": _constant_words(head.constant) if head.constant else "",
        "operations": [_operation(one) for one in head.operations],
        "parts": [_part(one) for one in head.parts],
        "attends": _line(sentence(head.attention)) if head.attention else "",
        "undertrained": sorted(_undertrained(head)),
        "tested": _tested_rows(head.test) if head.test else None,
        "suppressed": [_row(one) for one in head.suppressed_rows[:SUPPRESSED_ROWS]],
    }


def _test_words(test: TestResult) -> str:
    parts = [_line(test.reason)] if test.reason else []
    pairs, rows = test.pairs, test.rows
    if pairs:
        parts.append(
            f"{pairs.n_pairs} new pairs score {pairs.score:.2f} in the top {pairs.k}, higher than on "
            f"{pairs.percentile:.0f} % of the other {pairs.n_others} heads"
        )
    if rows and (rows.shown_n or rows.held_out_n):
        parts.append(
            f"rows that fit: {rows.shown_k} of {rows.shown_n} shown, {rows.held_out_k} of {rows.held_out_n} held out"
        )
    return "; ".join(parts)


def _undertrained(head: StoredHead) -> set[str]:
    """As the page spells them, the tokens that are no evidence."""
    if not head.undertrained:
        return set()
    rows = (*head.rows, *head.suppressed_rows, *(head.same_tokens.rows if head.same_tokens else ()))
    texts = {row.token_id: row.token for row in rows} | {t.token_id: t.token for row in rows for t in row.targets}
    return {_token(texts[i]) for i in head.undertrained if i in texts}


def _operation(one: HeadOperation) -> list[Any]:
    """Parts, label, score of its test, and the same without."""
    pairs = one.test.pairs
    numbers = [_number(pairs.score), _number(pairs.shuffled)] if pairs else [None, None]
    return [", ".join(str(place + 1) for place in one.parts), _line(f"{one.operation} {one.also_said}"), *numbers]


def _part(part: HeadPart) -> list[Any]:
    """Share in percent, words, and what they have in common."""
    words = " · ".join(_token(row.token) for row in part.rows[:PART_WORDS])
    return [f"{part.share:.1%}", words, " · ".join(_token(one.token) for one in part.targets)]


def _constant_words(part: ConstantPart) -> str:
    told = " · ".join(_token(one.token) for one in part.targets)
    return f"{told} ({part.share:.0%} of the length of a salient row)"


def _view(view: RowsView | None) -> list[Any] | None:
    return [_line(view.reading), [_row(one) for one in view.rows]] if view else None


def _tested_rows(test: TestResult) -> list[Any] | None:
    """k of the test, and its rows."""
    if test.pairs is None or not test.tested_rows:
        return None
    return [test.pairs.k, [_tested(one) for one in test.tested_rows]]


def _tested(one: TestedRow) -> list[Any]:
    return [_token(one.row.token), one.hit, _line(one.wanted), [_token(target.token) for target in one.row.targets]]


def _row(row: MappingRow) -> list[Any]:
    return [_token(row.token), round(_number(row.salience), 3), [_token(one.token) for one in row.targets]]


def _token(text: str) -> str:
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    return visible(cut)


def _line(text: str | None) -> str:
    return visible(" ".join((text or "").split()))


def _number(value: float | None) -> float:
    return float(value) if value is not None and math.isfinite(value) else 0.0
