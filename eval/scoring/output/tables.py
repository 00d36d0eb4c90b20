"""Scores for people: the table of scorers, the table of heads, and what each verdict means, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from agent.output.console import inert
from eval.scoring.questions.scorers import GENERATION, ROW_SCORERS
from eval.scoring.results import HeadScore, Outcome, ScorerSummary
from eval.statistics.intervals import Estimate

QUESTIONS = {name: one.question for name, one in ROW_SCORERS.items()} | {
    GENERATION: "Pairs made from the description, on the weights. Share of other heads below this one."
}
CSV_COLUMNS = (
    "layer", "head", "operation", "scorer", "judge", "score", "low", "high", "n", "unanswered", "swapped",
    "swapped_from", "same_operation", "why",
)  # fmt: skip


CAPTION = (
    "score: mean over all heads. swapped and gap: means over the heads with a control only (n of gap), so score "
    "minus swapped need not be the gap. In brackets 95 % intervals; the verdict: is that of the gap above 0?"
)
MOST_DIGITS = 6


def show_scores(out: Console, title: str, summaries: Sequence[ScorerSummary]) -> None:
    """One line a scorer, and what its columns are means over."""
    out.print(inert(title))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("scorer", no_wrap=True)
    table.add_column("judge", overflow="fold", max_width=20)
    for name in ("heads", "items", "chance", "score", "n of\ngap", "swapped", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("tells real\nfrom\nswapped", min_width=10)
    for one in summaries:
        counted = (str(one.n_heads), str(one.n_items), f"{one.chance:.2f}")
        control = (str(one.gap.n), _number(one.swapped), _number(one.gap))
        table.add_row(one.scorer, inert(one.judge), *counted, _number(one.score), *control, one.verdict)
    out.print(table)
    out.print(inert(CAPTION))
    for line in words(summaries):
        out.print(inert(line))


def words(summaries: Sequence[ScorerSummary]) -> Iterator[str]:
    """What each scorer asks, and what its verdict rests on."""
    for one in summaries:
        yield f"{one.scorer}: {QUESTIONS[one.scorer]} Tells real from swapped: {one.verdict} ({one.why})."
        if one.gap.n < one.n_heads:
            left = one.n_heads - one.gap.n
            yield f"  Without a control: {left} heads, whose swapped description does the same or has no score."
        if one.unanswered:
            yield f"  {one.unanswered} questions got no usable answer and do not count."


def show_heads(out: Console, scores: Sequence[HeadScore]) -> None:
    """One line a head, a column a scorer: own score, and the swapped one in brackets."""
    names = list(dict.fromkeys(one.scorer for one in scores))
    by_head: dict[tuple[int, int, str], dict[str, HeadScore]] = {}
    for one in scores:
        by_head.setdefault((one.layer, one.head, one.operation), {})[one.scorer] = one
    title = "Each head: score (score of the swapped description; = where it does the same)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("head", justify="right", no_wrap=True)
    table.add_column("operation", no_wrap=True, overflow="ellipsis", max_width=36)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for (layer, head, operation), own in by_head.items():
        table.add_row(f"{layer}.{head}", inert(operation), *(_cell(own.get(name)) for name in names))
    out.print(table)
    for reason in dict.fromkeys(f"{one.scorer}: {one.own.why}" for one in scores if one.own.why):
        n = sum(f"{one.scorer}: {one.own.why}" == reason for one in scores)
        out.print(inert(f"{n} heads, {reason}"))


def csv_rows(scores: Sequence[HeadScore], judge: str) -> Iterator[dict[str, object]]:
    """One row a head and scorer, with CSV_COLUMNS as keys."""
    for one in scores:
        said = one.own
        giver = f"{one.swapped_from[0]}.{one.swapped_from[1]}" if one.swapped_from else None
        yield {
            "layer": one.layer, "head": one.head, "operation": one.operation, "scorer": one.scorer, "judge": judge,
            "score": said.score, "low": said.low, "high": said.high, "n": said.n, "unanswered": said.unanswered,
            "swapped": one.swapped.score if one.swapped else None, "swapped_from": giver,
            "same_operation": one.same_operation, "why": said.why,
        }  # fmt: skip


def _number(value: Estimate) -> str:
    """With as many digits as tell an end of the interval near 0 from 0, since the verdict hangs on its sign."""
    if value.value is None:
        return "-"
    ends = [end for end in (value.low, value.high) if end and abs(end) >= 10**-MOST_DIGITS]
    digits = next((d for d in range(2, MOST_DIGITS) if all(round(end, d) for end in ends)), MOST_DIGITS)
    return value.text(digits)


def _cell(one: HeadScore | None) -> str:
    if one is None:
        return ""
    mark = "=" if one.same_operation else ""
    return f"{_score(one.own)} ({mark}{_score(one.swapped)})" if one.swapped else _score(one.own)


def _score(outcome: Outcome | None) -> str:
    return f"{outcome.score:.2f}" if outcome is not None and outcome.score is not None else "-"
