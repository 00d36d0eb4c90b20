"""Where its test does not support what a language model says of a head, a counted claim that is supported is taken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.checks.offers import class_scores
from agent.describers.choosing import ChoosingDescriber
from agent.describers.language_model import LanguageModelDescriber
from agent.errors import ModelFault
from agent.pipeline.one_head import describe_on, record_head
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence
from agent.runs.database import open_database
from agent.runs.stored import stored_head
from tests.support.agent.queue_models import PairMaker, QueueModel, agent_bench, said
from tests.support.eval.faithfulness_models import relation_of

TRUE, FALSE, COUNTED = "green to grey", "red to blue", "own words"
AT = (1, 2)
UNCLEAR = said("unclear", observed_pattern="Unclear")


@dataclass
class Counting:
    """A ranking describer that says what it is given."""

    gives: tuple[HeadDescription, ...]
    settings: dict[str, Any] = field(default_factory=lambda: {"version": 1})

    def ranked(self, evidence: Evidence) -> tuple[HeadDescription, ...]:
        assert evidence.rows
        return self.gives


def claim(operation: str, status: str = "ok") -> HeadDescription:
    return HeadDescription(status, "lexical", "Words.", f"Maps {operation}.", operation, 0.5)


@pytest.fixture(scope="module")
def maker_and_bench(tmp_path_factory):
    """A bench that knows two operations: pairs that the head makes, and pairs that it never makes."""
    bench = agent_bench(tmp_path_factory.mktemp("model") / "tiny", QueueModel([]))
    mapping = bench.maps.map_head(*AT)
    maker = PairMaker(bench, mapping, true=[TRUE])
    listed = {row.token for row in (*mapping.rows, *mapping.held_out_rows)}  # rows are no part of these tests
    own, far = (
        relation_of(name, tuple((s.strip(), (t.strip(),)) for s, t in made.items() if s not in listed))
        for name, made in (("own-words", maker.best), ("far-words", maker._wrong()))
    )
    return maker, replace(bench, relations=(own, far))


@pytest.fixture
def run(maker_and_bench):
    maker, bench = maker_and_bench

    def described(*answers, counted: tuple[HeadDescription, ...] | None):
        model = QueueModel(answers, maker)
        describer = LanguageModelDescriber(model, max_revisions=0, most_parts=0)
        beside = Counting(counted) if counted is not None else None
        return describe_on(replace(bench, describer=describer, counted=beside), *AT)

    return described


@pytest.mark.parametrize("answer", [UNCLEAR, said(FALSE)])
def test_a_supported_counted_claim_takes_the_place_of_words_that_are_not(run, answer):
    report = run(answer, counted=(claim("far words"), claim(COUNTED))).report
    assert (report.description.operation, report.description.describer) == (COUNTED, "lexical")
    assert report.test.verdict == "supported"
    assert report.test.tested_rows
    assert (report.trace.seen, report.trace.judging) == ((), None)  # its test used neither
    first, last = report.trace.attempts
    assert first.description.operation == answer["operation"]
    assert (last.decision, last.description.operation, last.trial.verdict) == ("counted", COUNTED, "supported")


def test_who_counted_is_stored_with_the_head(run, tmp_path):
    described = run(UNCLEAR, counted=(claim(COUNTED),))
    database = open_database(str(tmp_path / "r.sqlite"))
    number = record_head(database, described)
    stored = stored_head(database, number, *AT)
    assert stored.describer == stored.provenance["describer"] == "lexical"
    assert stored.run == number
    database.dispose()


def test_words_that_their_test_supports_stand(run):
    report = run(said(TRUE), counted=(claim(COUNTED),)).report
    assert report.trace.judging is not None
    assert (report.description.operation, report.description.describer) == (TRUE, "fake:queue")
    assert [one.decision for one in report.trace.attempts] == ["proposed"]


@pytest.mark.parametrize("counted", [(), (claim("far words"),), (claim("unclear", "unclear"),), None])
def test_without_one_that_is_supported_the_models_words_are_recorded(run, counted):
    report = run(UNCLEAR, counted=counted).report
    assert (report.description.status, report.description.describer) == ("unclear", "fake:queue")
    assert [one.decision for one in report.trace.attempts] == ["proposed"]


def test_a_failed_description_stays_failed(run):
    report = run(ModelFault("schema", "no JSON"), counted=(claim(COUNTED),)).report
    assert report.description.status == "failed"


def test_whether_claims_are_counted_is_part_of_a_runs_identity(run):
    alone, beside = run(UNCLEAR, counted=None).identity, run(UNCLEAR, counted=()).identity
    assert "counted" not in alone.describer_settings
    assert beside.describer_settings["counted"] == {"version": 1}


def test_other_thresholds_are_another_run(maker_and_bench, monkeypatch):
    _, bench = maker_and_bench
    before = bench.identity
    assert bench.identity == before
    monkeypatch.setattr(class_scores, "STRENGTH", 15.0)
    assert bench.identity.hash() != before.hash()


@pytest.mark.parametrize(("choice", "kept"), [(1, COUNTED), (2, COUNTED), (0, COUNTED)])
def test_a_choice_is_tested_first_and_the_first_that_is_supported_is_recorded(maker_and_bench, choice, kept):
    _, bench = maker_and_bench
    model = QueueModel([{"reasoning": "It fits.", "choice": choice}])
    describer = ChoosingDescriber(model, Counting((claim("far words"), claim(COUNTED))))
    report = describe_on(replace(bench, describer=describer, counted=None), *AT).report
    assert (report.description.operation, report.description.describer) == (kept, "choose:fake:queue")
    assert report.test.verdict == "supported"
    order = ["far words", COUNTED] if choice != 2 else [COUNTED, "far words"]
    assert [one.description.operation for one in report.trace.attempts] == order
    assert (report.trace.usage.read, report.trace.conversation[-1].role) == (10, "assistant")


def test_a_model_that_cannot_choose_leaves_the_head_to_be_asked_about_again(maker_and_bench):
    _, bench = maker_and_bench
    describer = ChoosingDescriber(
        QueueModel([ModelFault("timeout", "late")]), Counting((claim("far words"), claim("x")))
    )
    report = describe_on(replace(bench, describer=describer, counted=None), *AT).report
    assert (report.description.status, report.test.verdict) == ("failed", "not testable")
