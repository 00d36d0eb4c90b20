"""A request of `headscribe score` carried out: heads scored, tables shown, files written."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from agent.output.cells import safe_cell
from agent.output.console import console, echo_json
from agent.output.terminal.stage_progress import stage_bars
from eval.scoring.job import ScoreJob
from eval.scoring.job_builder import JobBuilder
from eval.scoring.keepers import JsonlKeeper
from eval.scoring.output.summary import summarise
from eval.scoring.output.tables import CSV_COLUMNS, csv_rows, show_heads, show_scores, words
from eval.scoring.request import ScoreRequest
from eval.scoring.results import HeadScore, ScorerSummary
from maps_engine.files import write_whole


def run_request(request: ScoreRequest) -> None:
    """Score, write, show. Raises HeadscribeError, before any work where the request itself is refused."""
    request.check()
    with stage_bars() as tell:
        builder = JobBuilder(request)
        job = builder.job(tell)
        keepers = builder.keepers(job)
        scores = job.run(keepers)
    summaries = summarise(scores, judge=job.judge.name, seed=request.seed)
    title = f"{len(job.keys)} described heads of {job.collection.model} ({job.collection.origin})"
    for keeper in keepers:
        if isinstance(keeper, JsonlKeeper):
            keeper.finish(summaries)
    for path in request.output:
        if path.suffix.lower() == ".csv":
            write_whole(path, scores_csv(scores, job.judge.name), parents=True)
    if request.figure is not None:
        from eval.scoring.output.figure import write_figure

        write_figure(request.figure, scores, title)
    _show(request, title, job, scores, summaries)


def _show(
    request: ScoreRequest,
    title: str,
    job: ScoreJob,
    scores: Sequence[HeadScore],
    summaries: Sequence[ScorerSummary],
) -> None:
    if request.as_json:
        heads = {"per_head": [one.to_json() for one in scores]} if request.per_head else {}
        settings = job.identity() | {"heads": [list(key) for key in job.keys]}
        echo_json({
            "model": job.collection.model,
            "fingerprint": job.collection.fingerprint,
            "origin": job.collection.origin,
            "settings": settings,
            "scorers": [one.to_json() for one in summaries],
            "words": list(words(summaries)),
            **heads,
        })  # fmt: skip
        return
    out = console()
    if request.per_head:
        show_heads(out, scores)
    show_scores(out, title, summaries)


def scores_csv(scores: Sequence[HeadScore], judge: str) -> bytes:
    """The table of `--output FILE.csv`: UTF-8 with a byte order mark, one row a head and scorer."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS)
    writer.writeheader()
    for row in csv_rows(scores, judge):
        writer.writerow({name: safe_cell(value) for name, value in row.items()})
    return text.getvalue().encode("utf-8-sig", "replace")
