"""Scoring of a whole run: resume, refusal, threads, what is kept in file and database; the command line exactly."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select
from typer.testing import CliRunner

from agent.checks.pair_scorer import PairScorer
from agent.describers.protocol import Proposed
from agent.errors import BudgetSpent
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import TestResult
from agent.results.reports import HeadReport
from agent.runs.database import open_database, reading
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.records import Base, DescriptionScoreRecord
from agent.runs.state import finish_run
from agent.runs.store import open_run, store_result
from agent.runs.stored import stored_heads
from agent.runs.tables import delete_run
from agent.words import embedder
from agent.words.fields import SemanticFields
from eval.commands.headscribe import app
from eval.errors import BadImport, MixedResults
from eval.judges.lexical import LexicalJudge
from eval.scoring.collection import Collection, of_file, of_run
from eval.scoring.job import ScoreJob
from eval.scoring.keepers import DatabaseKeeper, JsonlKeeper
from eval.scoring.questions.foreign_rows import rows_from_weights
from eval.scoring.questions.generation import Generator
from eval.scoring.questions.scorers import GENERATION, ROW_SCORERS, SCORERS
from eval.scoring.results import Subject
from maps_engine.engine import MapsEngine
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.agent.mappings import LetterEmbedder
from tests.support.believable import made_provenance
from tests.support.eval.scored_heads import subjects
from tests.support.tiny_models import tiny_model

RUN = CliRunner()
RELATIONS = load_relations()
SAID = ("copying", "word to first letter", "copying with case variants", "singular to plural", "")


class CountingJudge(LexicalJudge):
    """The lexical judge, said to be slow, that remembers what it was asked and may run out of budget."""

    asks_a_model = True

    def __init__(self, fields, *, budget=10**9):
        super().__init__(lambda: fields, load_relations)
        self.asked, self.budget = 0, budget

    def rate_rows(self, said, rows):
        self.asked += 1
        if self.asked > self.budget:
            raise BudgetSpent("the tokens allowed are used up")
        return super().rate_rows(said, rows)

    find_intruder = rate_rows
    rate_targets = rate_rows


class ProposingJudge(CountingJudge):
    """Answers free text with pairs of the tiny vocabulary's few words."""

    def propose_pairs(self, description, *, n, excluded):
        words = re.findall(r"\w+", "the on he and they she ran red wal it walk t s r w i f h")
        pairs = zip(words, [*words[1:], words[0]], strict=True)
        named = description.operation != "nothing"
        return Proposed(tuple((s, t) for s, t in pairs if s not in excluded) if named else ())


@pytest.fixture(scope="module")
def fields():
    return SemanticFields(LetterEmbedder())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder, _ = tiny_model("llama", tmp_path_factory.mktemp("model") / "tiny")
    return folder


@pytest.fixture(scope="module")
def mapped(tiny):
    engine = MapsEngine.open(str(tiny), settings=EngineSettings("embedding", top=20, targets=4), device="cpu")
    return engine, list(engine.map_heads())


@pytest.fixture
def database(mapped, tmp_path):
    """A finished run of the tiny model's eight heads: seven described, one of them unclear."""
    engine, mappings = mapped
    path = str(tmp_path / "records.sqlite")
    opened = open_database(path)
    identity = RunIdentity(engine.checkpoint.fingerprint, engine.settings, "0" * 32, "made")
    run = open_run(opened, card=ModelCard.of(engine.checkpoint), identity=identity).run_id
    for place, mapping in enumerate(mappings):
        said = SAID[place % len(SAID)]
        status = "ok" if said else "unclear"
        description = HeadDescription(status, "made", "Words.", f"Does {said}.", said or "unclear", 0.5)
        provenance = made_provenance(mapping)
        store_result(opened, run, HeadReport(mapping, (), description, TestResult("not testable", said), provenance))
    finish_run(opened, run)
    opened.dispose()
    return path


@pytest.fixture
def letters(monkeypatch):
    monkeypatch.setattr(embedder, "load_embedder", LetterEmbedder)


def job_of(judge, **changes):
    collection = Collection(tuple(subjects()), "made")
    keys = [one.key for one in collection.described]
    values = {"collection": collection, "keys": keys, "scorers": tuple(ROW_SCORERS), "judge": judge, "workers": 3}
    return ScoreJob(**(values | changes))


def test_every_head_is_scored_with_its_control_and_again_the_same(fields):
    first = job_of(CountingJudge(fields)).run()
    assert [((s.layer, s.head), s.scorer) for s in first] == [
        (key, name) for key in job_of(CountingJudge(fields)).keys for name in ROW_SCORERS
    ]
    assert all(one.swapped is not None and one.swapped_from != (one.layer, one.head) for one in first)
    slow = job_of(CountingJudge(fields), workers=1).run()
    judge = LexicalJudge(lambda: fields, load_relations)
    assert first == slow == job_of(judge).run()


def test_a_head_keeps_its_scores_whichever_heads_and_scorers_are_asked_for(fields):
    judge = CountingJudge(fields)
    whole = {((s.layer, s.head), s.scorer): s for s in job_of(judge).run()}
    part = job_of(judge, keys=[(1, 1), (2, 0)], scorers=("fuzzing",)).run()
    assert [whole[(one.layer, one.head), one.scorer] for one in part] == part


def test_a_stopped_run_continues_where_it_was(fields, tmp_path):
    path = tmp_path / "scores.jsonl"
    stopped = job_of(CountingJudge(fields, budget=60), workers=1)
    with pytest.raises(BudgetSpent):
        stopped.run([JsonlKeeper(path, stopped.identity())])
    kept = JsonlKeeper(path, stopped.identity()).known()
    assert 0 < len(kept) < len(stopped.keys) * 4
    fresh, again = CountingJudge(fields), CountingJudge(fields)
    everything = job_of(fresh).run()
    job = job_of(again)
    assert job.run([JsonlKeeper(path, job.identity())]) == everything
    assert again.asked < fresh.asked
    third = CountingJudge(fields)
    assert job_of(third).run([JsonlKeeper(path, job.identity())]) == everything
    assert third.asked == 0


def test_a_failure_that_is_seen_first_loses_no_reply_that_came(fields, tmp_path):
    """All heads are answered or refused before the first of them is looked at, in whatever order."""
    path, judge = tmp_path / "scores.jsonl", CountingJudge(fields, budget=60)
    job = job_of(judge, workers=1)
    last = len(job.keys)

    def wait_at_the_last(what, place, _):
        if what == "preparing questions" and place == last:
            while judge.asked <= judge.budget:
                time.sleep(0.01)

    job = replace(job, tell=wait_at_the_last)
    with pytest.raises(BudgetSpent):
        job.run([JsonlKeeper(path, job.identity())])
    assert JsonlKeeper(path, job.identity()).known()


@pytest.mark.parametrize("change", [{"seed": 1}, {"items": 12}])
def test_other_settings_are_refused(fields, tmp_path, change):
    path, judge = tmp_path / "scores.jsonl", CountingJudge(fields)
    job = job_of(judge, keys=[(0, 0)])
    job.run([JsonlKeeper(path, job.identity())])
    name = next(iter(change))
    with pytest.raises(MixedResults, match=rf"scores\.jsonl holds scores .*{name}.*Give another --output"):
        JsonlKeeper(path, job_of(judge, **change).identity())


@pytest.mark.parametrize("content", ["no json", '{"score": {}}', "[1]", '{"settings": {}}\n{"score": {"a": 1}}'])
def test_other_files_are_not_overwritten(content, tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text(content)
    with pytest.raises((BadImport, MixedResults)):
        JsonlKeeper(path, {"seed": 0})
    assert path.read_text() == content


def test_the_table_is_the_migrations_and_goes_with_its_run(database, fields, mapped):
    opened = open_database(database)
    with opened.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert [one for one in found if "description_scores" in str(one)] == []
    collection = of_run(opened, None)
    job = job_of(CountingJudge(fields), collection=collection, keys=[one.key for one in collection.described])
    keeper = DatabaseKeeper(opened, collection.run_id, job.identity())
    made = job.run([keeper])
    assert sorted(keeper.known(), key=str) == sorted(made, key=str)
    stored = next(one for one in stored_heads(opened, collection.run_id) if one.scores)
    assert [one.scorer for one in stored.scores] == list(ROW_SCORERS)
    assert stored.scores[0].score == made[0].own.score
    job.run([keeper])
    other = replace(job, seed=5)
    other.run([DatabaseKeeper(opened, collection.run_id, other.identity())])
    count = select(func.count(DescriptionScoreRecord.id))
    with reading(opened) as session:
        assert session.scalar(count) == 2 * len(made)
        one = session.scalars(select(DescriptionScoreRecord).limit(1)).one()
        assert (one.judge, one.scorer in ROW_SCORERS, one.details["scorer"]) == ("lexical", True, one.scorer)
    delete_run(opened, collection.run_id)
    with reading(opened) as session:
        assert session.scalar(count) == 0
    opened.dispose()


def test_generation_holds_pairs_of_the_description_against_all_heads(mapped, fields):
    engine, mappings = mapped
    head = Subject(mappings[0], HeadDescription("ok", "made", operation="something new"))
    generator, judge = Generator(PairScorer(engine), RELATIONS), ProposingJudge(fields)
    plan = generator.plan(head, head.description, judge)
    none, few = (
        generator.plan(head, HeadDescription("ok", "made", operation=o), judge) for o in ("nothing", "copying")
    )
    outcomes = generator.score([plan, none, few])
    assert [one.score for one in outcomes[1:]] == [None, None]
    assert outcomes[1].why == "0 one-token pairs; 10 are needed"
    assert plan.pairs is not None
    phi = engine.score_pairs([plan.pairs], source="residual")[0].score
    own, others = float(phi[0, 0]), [float(v) for v in phi.flatten()[1:]]
    share = sum(v < own for v in others) + 0.5 * sum(v == own for v in others)
    assert outcomes[0].score == pytest.approx(share / len(others))
    assert outcomes[0].n == len(plan.pairs.sources) >= 10
    assert outcomes[0].parts["phi"] == pytest.approx(own)
    shown = {row.token_id for row in mappings[0].rows}
    assert shown.isdisjoint(plan.pairs.sources)


def test_all_scorers_of_a_real_model(mapped, fields, database):
    engine, _ = mapped
    opened = open_database(database)
    collection = of_run(opened, None)
    opened.dispose()
    described = replace(collection.subjects[0].description, operation="something new")
    first = replace(collection.subjects[0], description=described)
    collection = replace(collection, subjects=(first, *collection.subjects[1:]))
    job = job_of(
        ProposingJudge(fields),
        collection=collection,
        keys=[one.key for one in collection.described],
        scorers=SCORERS,
        rows_of=rows_from_weights(engine),
        generator=Generator(PairScorer(engine), RELATIONS),
    )
    made = job.run()
    assert {one.scorer for one in made} == set(SCORERS)
    generated = [one for one in made if one.scorer == GENERATION]
    assert generated[0].own.score is not None
    assert all(one.own.score is not None or "10 are needed" in one.own.why for one in generated)
    assert job.identity()["hard negatives"] == "weights"


# The command line


def command(*arguments):
    return RUN.invoke(app, ["score", *map(str, arguments)])


def test_help_is_instant_and_imports_nothing_heavy():
    heavy = ("torch", "chromadb", "langchain_core", "sqlalchemy", "scipy", "matplotlib")
    code = "import sys; from eval.commands.headscribe import headscribe_main; sys.argv = ['x', 'score', '--help']\n"
    code += f"try: headscribe_main()\nexcept SystemExit: pass\nprint([m for m in {heavy} if m in sys.modules])"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.rstrip().endswith("[]"), made.stdout[-200:]


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (["--scorers", "guessing"], "no such scorer: got guessing; expected detection, fuzzing"),
        (["--scorers", ","], "no such scorer: got none"),
        (["--scorers", "generation", "--no-weights"], "generation needs the weights"),
        (["--run", "1", "--from", "x.jsonl"], "too many sources of heads"),
        (["--layer", "1"], "one head needs both its numbers"),
        (["--layer", "1", "--head", "0", "--no-weights"], "cannot be described now without weights"),
        (["--output", "x.xlsx"], "unknown kind of file: got x.xlsx; expected .jsonl, .csv"),
        (["--output", "absent/x.csv"], "cannot be written"),
        (["--figure", "x.gif"], "unknown kind of file"),
        (["--from", "absent.jsonl"], "cannot be read"),
        (["--from", "e.csv"], "a csv export cannot be scored"),
        (["--from", "e.csv"], "expected the JSONL of the same run"),
        (["--run", "77"], "no such run: got 77"),
        (["--layers", "0-99"], "no layer 99; expected 0 to 1"),
        (["--heads", "x"], "not a list of heads"),
        (["--layers", "1", "--heads", "0"], "none of the chosen heads has a description"),
        (["--judge", "magic", "--no-weights"], "magic"),
        (["--model", "other"], "no finished run of other in the database"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, needle, database, letters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = command("--database", database, "--judge", "lexical", *arguments)
    assert made.exit_code == 2, made.output
    assert needle in made.output
    assert made.output.count("\n") == 1


def test_scores_from_the_command_line_with_all_files(database, letters, tmp_path):
    files = [tmp_path / name for name in ("s.jsonl", "s.csv", "s.png")]
    shared = ("--database", database, "--judge", "lexical")
    made = command(*shared, "--output", files[0], "--output", files[1], "--figure", files[2], "--per-head")
    assert made.exit_code == 0, made.output
    assert made.output.count("described heads of") == 1
    for name in SCORERS:
        assert f"\n {name} " in made.output
        assert f"\n{name}: " in made.output
    assert "tells real" in made.output
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert list(lines[0]) == ["settings"]
    assert [one["scorer"] for one in lines[-1]["summary"]] == list(SCORERS)
    assert len(lines) == 2 + 7 * len(SCORERS)
    rows = list(csv.DictReader(io.StringIO(files[1].read_text("utf-8-sig"))))
    assert len(rows) == 7 * len(SCORERS)
    assert rows[0]["operation"] == "copying"
    assert files[2].read_bytes().startswith(b"\x89PNG")
    before = files[0].read_bytes()
    again = command(*shared, "--output", files[0], "--json")
    assert again.exit_code == 0
    assert files[0].read_bytes() == before
    refused = command(*shared, "--output", files[0], "--seed", "9")
    assert (refused.exit_code, "other settings" in refused.output) == (2, True)


def test_json_says_everything(database, letters):
    made = command("--database", database, "--judge", "embedding", "--json", "--no-weights", "--per-head", "--limit", 5)
    found = json.loads(made.stdout)
    assert [one["scorer"] for one in found["scorers"]] == [name for name in SCORERS if name != GENERATION]
    assert found["settings"]["judge"] == "embedding"
    assert found["settings"]["hard negatives"] == "borrowed targets"
    assert len(found["settings"]["heads"]) == 5
    assert len(found["per_head"]) == 20
    assert [line.split(":")[0] for line in found["words"] if not line.startswith(" ")] == list(ROW_SCORERS)
    for one in found["scorers"]:
        assert one["verdict"] in {"yes", "no", "too few heads"}
        assert {"value", "low", "high", "n", "why"} == set(one["gap"])


def test_an_exported_file_scores_like_its_run(database, letters, tmp_path):
    from agent.output.run_files import export_run

    opened = open_database(database)
    path = tmp_path / "run.jsonl"
    export_run(opened, 1, path)
    assert of_file(path).hash() == of_run(opened, 1).hash()
    opened.dispose()
    made = [
        json.loads(command(*way, "--judge", "lexical", "--scorers", "detection,fuzzing", "--json").stdout)["scorers"]
        for way in (("--from", path), ("--database", database, "--run", "1"))
    ]
    assert made[0] == made[1]


def test_weights_of_another_model_are_refused(database, letters, tmp_path):
    other, _ = tiny_model("llama", tmp_path / "other", seed=7)
    opened = open_database(database)
    from agent.output.run_files import export_run

    export_run(opened, 1, tmp_path / "run.jsonl")
    opened.dispose()
    made = command("--from", tmp_path / "run.jsonl", "--judge", "lexical", "--model", other)
    assert made.exit_code == 2
    assert "these heads are of another model" in made.output
    assert "--no-weights" in made.output
