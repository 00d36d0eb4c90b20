"""Bulk runs with an agent on a tiny model: traces recorded, a spent budget stops and resumes, nothing asked twice."""

from __future__ import annotations

import threading
from zlib import crc32

import pytest

from agent.describers.asking.answers import PairsAnswer
from agent.describers.language_model import LanguageModelDescriber
from agent.errors import BudgetSpent
from agent.pipeline import label as bulk
from agent.pipeline.describing import NOT_TESTED
from agent.pipeline.label import label, prepare
from agent.pipeline.worker import HeadDone, HeadWorker
from agent.runs.state import counts
from agent.runs.stored import stored_heads, stored_lines
from agent.runs.workers import kept_replies
from tests.agent.pipeline.test_label import pretend_dead
from tests.support.agent.bulk_runs import letter_bench, tiny_request
from tests.support.agent.queue_models import Asked, PairMaker, QueueModel, revised, said, wordy_model


class Answers:
    """Every head: a wrong description, then a withdrawal for odd heads and a right one for even ones."""

    def __init__(self, after: int = 10**9) -> None:
        self.questions, self._after, self._lock = [], after, threading.Lock()
        self.settings, self.name = {"model": "rule"}, "fake:rule"
        self.maker = None

    def ask(self, prompt, answer, **options):
        with self._lock:
            if len(self.questions) >= self._after:
                raise BudgetSpent("the token budget is spent", got=f"{len(self.questions)} questions")
            self.questions.append(prompt)
        if answer is PairsAnswer:
            value = self.maker(Asked(prompt, answer, "", ()))
        elif "decision" in answer.model_fields:
            value = revised("change", "green to grey") if crc32(prompt.encode()) % 3 else revised("withdraw")
        else:
            value = said("red to blue")
        return QueueModel([value], value).ask(prompt, answer, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("model") / "tiny"


@pytest.fixture
def planned(folder, tmp_path, monkeypatch):
    def make(model, **changes):
        request = tiny_request(wordy_model(folder), store_folder=tmp_path / "chroma", layers="1", workers=2, **changes)
        bench = letter_bench(request, LanguageModelDescriber(model))
        model.maker = PairMaker(bench, bench.maps.map_head(1, 2), true=["green to grey"])
        monkeypatch.setattr(bulk, "open_workbench", lambda r, device=None: bench)
        return prepare(request, database=str(tmp_path / "records.sqlite"), lease_seconds=60)

    return make


def never() -> bool:
    return False


def run(plan):
    events = []
    outcome = label(plan, on_event=events.append, stop=never)
    return outcome, [e for e in events if isinstance(e, HeadDone)]


def test_attempts_and_conversations_are_recorded(planned):
    plan = planned(Answers())
    outcome, done = run(plan)
    assert outcome.counts.done == 4
    for head in stored_heads(plan.database, plan.job.run_id):
        row = head.to_json()
        trace = row["trace"]
        assert trace["attempts"][0]["operation"] == "red to blue"
        assert trace["conversation"][0]["role"] == "user"
        assert set(trace["seen"]) >= {r["token"].strip().casefold() for r in row["rows"]}
        assert trace["usage"]["read"] >= 20
        assert row["test"]["reason"] != NOT_TESTED
    assert all(one.usage.read >= 20 for one in done)
    (brief, *_) = stored_lines(plan.database, plan.job.run_id)
    assert "trace" not in brief.to_json()


def test_a_spent_budget_keeps_what_is_done_and_the_next_run_goes_on(planned):
    poor = Answers(
        after=11
    )  # a head takes six at most: of two in flight one ends within eleven, and all four need more
    plan = planned(poor)
    with pytest.raises(BudgetSpent, match="budget is spent"):
        run(plan)
    now = counts(plan.database, plan.job.run_id)
    assert 1 <= now.done < 4
    assert now.claimed == 0
    rich = Answers()
    outcome, done = run(planned(rich))
    assert (outcome.state, len(done)) == ("finished", 4 - now.done)
    assert sum("Say what the head does" in q for q in rich.questions) == 4 - now.done


def test_what_was_kept_before_a_crash_is_judged_by_the_same_pairs(planned, monkeypatch):
    model = Answers()
    plan = planned(model)
    with monkeypatch.context() as patch:
        patch.setattr(HeadWorker, "_store", lambda self, reports: (_ for _ in ()).throw(SystemExit))
        patch.setattr(HeadWorker, "_give_back", lambda self: None)
        with pytest.raises(SystemExit):
            run(plan)
    kept = kept_replies(plan.database, plan.job.run_id, plan.job.keys)
    assert len(kept) == 4
    asked = len(model.questions)
    pretend_dead(plan)
    outcome, _ = run(planned(model))
    assert outcome.counts.done == 4
    assert len(model.questions) == asked  # nothing is asked again, pairs included
    tested = 0
    for head in stored_heads(plan.database, plan.job.run_id):
        row = head.to_json()
        trace = kept[row["layer"], row["head"]].trace
        assert trace.conversation
        assert row["trace"]["attempts"] == [one.to_json() for one in trace.attempts] or row["trace"]["attempts"]
        if row["test"]["verdict"] != "not testable":  # a description whose pairs all were tried has none left
            assert row["test"]["pairs"]["n_pairs"] == len(trace.judging.sources)
            tested += 1
    assert tested
