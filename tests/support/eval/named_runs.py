"""A finished run of named heads on a tiny model, written by hand: names, new pairs, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine

from agent.results.descriptions import HeadDescription
from agent.results.outcomes import TestResult
from agent.results.reports import NO_TRACE, HeadReport, Trace
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.state import finish_run
from agent.runs.store import open_run, store_results
from eval.faithfulness.bench import Bench
from maps_engine.model import Checkpoint
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings, HeadMapping, MappingRow, ScoredToken
from tests.support.agent.queue_models import wordy_model
from tests.support.believable import made_provenance

SETTINGS = EngineSettings("embedding")


def wordy_bench(folder: Path, **options) -> Bench:
    """A bench over a tiny model with 90 words."""
    return Bench.open(str(wordy_model(folder / "model")), folder / "results", device="cpu", **options)


def word_ids(checkpoint: Checkpoint) -> list[int]:
    """Tokens that are a word of four letters behind a space."""
    texts = ((i, checkpoint.vocabulary.text(i)) for i in range(len(checkpoint.vocabulary)))
    return [i for i, text in texts if text.startswith(" ") and len(text) == 5 and text[1:].isalpha()]


def step_pairs(checkpoint: Checkpoint, *, first: int = 0, n: int = 20, step: int = 1, k: int = 10) -> PairSet:
    """`n` words from the one numbered `first` on, each with the word `step` places behind it."""
    ids = word_ids(checkpoint)
    places = range(first, first + n)
    return PairSet(tuple(ids[i] for i in places), tuple((ids[i + step],) for i in places), k)


def named(
    checkpoint: Checkpoint,
    layer: int,
    head: int,
    operation: str,
    *,
    judging: PairSet | None = None,
    seen: Sequence[str] = (),
    verdict: str = "supported",
    status: str = "ok",
) -> HeadReport:
    """A head whose shown row has the first word as its source; `judging` and `seen` as an agent's trace keeps them."""
    shown = word_ids(checkpoint)[0]
    text = checkpoint.vocabulary.text(shown)
    rows = (MappingRow(text, shown, 1.0, (ScoredToken(text, shown, 1.0),)),)
    mapping = HeadMapping(checkpoint.name, checkpoint.fingerprint, layer, head, SETTINGS, rows, ())
    said = HeadDescription(status, "made", "Words.", f"Does {operation}.", operation, 0.5)
    trace = NO_TRACE if judging is None else Trace(seen=tuple(seen), judging=judging)
    return HeadReport(mapping, (), said, TestResult(verdict, operation), made_provenance(mapping), trace)


def stored_run(
    engine: Engine, checkpoint: Checkpoint, reports: Sequence[HeadReport], *, describer: str = "made"
) -> int:
    """The number of a finished run of these heads."""
    card = ModelCard(checkpoint.name, checkpoint.fingerprint, checkpoint.weights.shape, "a test")
    identity = RunIdentity(checkpoint.fingerprint, SETTINGS, "p" * 12, describer)
    heads = [(one.mapping.layer, one.mapping.head) for one in reports]
    run = open_run(engine, card=card, identity=identity, heads=heads).run_id
    store_results(engine, run, [(one, None) for one in reports])
    finish_run(engine, run)
    return run
