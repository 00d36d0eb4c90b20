"""Described heads to score: of a run in the database, of an exported JSONL file, or described now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UnknownRun
from agent.results.descriptions import HeadDescription
from agent.runs.database import reading
from agent.runs.identity import content_hash
from agent.runs.records import ModelRecord, RunRecord
from agent.runs.state import newest_run
from agent.runs.stored import StoredHead, head_of_json, stored_heads
from eval.errors import BadImport
from eval.scoring.results import HeadKey, Subject
from maps_engine.errors import UserMistake
from maps_engine.results import EngineSettings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from agent.pipeline.workbench import Workbench

TABLES = (".csv", ".parquet", ".html")  # what else label-heads exports: for people and spreadsheets


@dataclass(frozen=True)
class Collection:
    """All heads at hand, with and without a description: any of them may lend rows to the others' questions."""

    subjects: tuple[Subject, ...]
    origin: str  # in words, for the title of the table
    run_id: int | None = None

    @property
    def model(self) -> str:
        return self.subjects[0].mapping.model

    @property
    def fingerprint(self) -> str:
        return self.subjects[0].mapping.fingerprint

    @property
    def settings(self) -> EngineSettings:
        return self.subjects[0].mapping.settings

    @property
    def described(self) -> tuple[Subject, ...]:
        """Heads whose description is `ok`, by layer and head."""
        return tuple(sorted((one for one in self.subjects if one.described), key=lambda one: one.key))

    def hash(self) -> str:
        """Of everything that decides the questions: descriptions and rows of all heads."""
        return content_hash(
            [
                [*one.key, one.mapping.source, one.description.status, one.description.operation,
                 one.description.input_strings, one.description.observed_pattern,
                 [[r.token_id, *(t.token_id for t in r.targets)]
                  for r in (*one.mapping.rows, *one.mapping.held_out_rows)]]
                for one in sorted(self.subjects, key=lambda one: one.key)
            ]
        )  # fmt: skip


def of_run(engine: Engine, run_id: int | None, *, model: str | None = None) -> Collection:
    """Heads of a run; without a number, of the newest run that is finished. Raises UnknownRun, UserMistake."""
    number = _newest(engine, model) if run_id is None else run_id
    subjects = [_subject(one) for one in stored_heads(engine, number)]
    return _checked(Collection(tuple(subjects), f"run {number}", number))


def _newest(engine: Engine, model: str | None) -> int:
    of_model = [ModelRecord.name == model] if model else []
    with reading(engine) as session:
        run = newest_run(session, RunRecord.state == "finished", *of_model)
    if run is None:
        of = f" of {model}" if model else ""
        raise UnknownRun(f"no finished run{of} in the database", next_step="label-heads makes one.")
    return run.id


def of_file(path: Path) -> Collection:
    """Heads of a file written by `label-heads --export FILE.jsonl`. Raises BadImport, UserMistake."""
    if path.suffix.lower() in TABLES:
        raise BadImport(
            f"a {path.suffix[1:].lower()} export cannot be scored: it has no rows of tokens to ask about",
            got=path.name,
            expected="the JSONL of the same run",
            next_step="`headscribe runs export RUN FILE.jsonl` writes it.",
        )
    subjects = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadImport("this file cannot be read", got=f"{path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            subjects.append(_subject(head_of_json(json.loads(line))))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadImport(
                f"line {number} of {path.name} is no described head",
                got=f"{type(error).__name__} {error}",
                expected="a line of `label-heads --export FILE.jsonl`",
            ) from error
    return _checked(Collection(tuple(subjects), path.name))


def described_now(bench: Workbench, layer: int, *, workers: int) -> Collection:
    """All heads of one layer, described here: the others lend the rows and the descriptions of the control."""
    from agent.pipeline.flow import Conditions, propose, retrieve

    bench.maps.check_head(layer, 0)
    found = retrieve(bench, bench.maps.with_parts(list(bench.maps.map_heads([layer]))))
    reports = propose(bench, found, Conditions(workers=workers))
    subjects = tuple(Subject(report.mapping, report.description) for report in reports)
    return _checked(Collection(subjects, f"layer {layer}, described now"))


def _checked(collection: Collection) -> Collection:
    if not collection.subjects:
        raise UserMistake("no described heads to score", got=collection.origin)
    made_of = {(one.mapping.model, one.mapping.fingerprint) for one in collection.subjects}
    keys = {one.key for one in collection.subjects}
    if len(made_of) > 1 or len(keys) < len(collection.subjects):
        raise BadImport("heads of several models or runs in one file", got=collection.origin, expected="one run")
    if not any(one.mapping.held_out_rows for one in collection.subjects):
        raise BadImport("these heads have no held-out rows to score on", got=collection.origin)
    return collection


def _subject(stored: StoredHead) -> Subject:
    said = ("status", "describer", "operation", "input_strings", "observed_pattern", "confidence", "reason", "claims")
    return Subject(stored.mapping, HeadDescription(**{name: getattr(stored, name) for name in said}))


def chosen(
    described: Iterable[Subject], *, layers: Iterable[int], heads: Iterable[int], limit: int | None, seed: int
) -> list[HeadKey]:
    """Described heads of `layers` and `heads`; with `limit`, a seeded sample of them, in order."""
    import random

    wanted_layers, wanted_heads = frozenset(layers), frozenset(heads)
    keys = [one.key for one in described if one.key[0] in wanted_layers and one.key[1] in wanted_heads]
    if limit is not None and limit < len(keys):
        keys = sorted(random.Random(f"limit {seed}").sample(keys, limit))
    return keys
