"""What `score-descriptions` does with its request: score, show, write."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from agent.output.console import console, echo_json
from agent.output.run_files import formula_safe
from agent.output.terminal.stage_bars import progress_bars
from eval.results_folder import write_whole
from eval.scoring.bench import Bench
from eval.scoring.job import ScoreJob
from eval.scoring.keeping import JsonlKeeper
from eval.scoring.output.summary import summarise
from eval.scoring.output.tables import CSV_COLUMNS, csv_rows, show_heads, show_scores, words
from eval.scoring.request import ScoreRequest
from eval.scoring.results import HeadScore, ScorerSummary


def run_request(request: ScoreRequest) -> None:
    """The whole command. Raises HeadscribeError."""
    request.check()
    with progress_bars() as tell:
        bench = Bench(request)
        job = bench.job(tell)
        keepers = bench.keepers(job)
        scores = job.run(keepers)
    summaries = summarise(scores, judge=job.judge.name, seed=request.seed)
    title = f"{len(job.keys)} described heads of {job.collection.model} ({job.collection.origin})"
    for keeper in keepers:
        if isinstance(keeper, JsonlKeeper):
            keeper.finish(summaries)
    for path in request.output:
        if path.suffix.lower() == ".csv":
            write_whole(path, _csv(scores, job.judge.name))
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


def _csv(scores: Sequence[HeadScore], judge: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, CSV_COLUMNS)
    writer.writeheader()
    for row in csv_rows(scores, judge):
        writer.writerow({name: formula_safe(value) for name, value in row.items()})
    return text.getvalue().encode("utf-8-sig", "replace")
