"""Whole bulk runs on a tiny model: complete, resumable, never two labels for one head, never a mixture."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace

import pytest

from agent.errors import DatabaseUnusable, DescriberDown
from agent.pipeline import flow
from agent.pipeline import label as bulk
from agent.pipeline import worker as head_worker
from agent.pipeline.describing import NOT_TESTED
from agent.pipeline.label import Plan, label, prepare
from agent.pipeline.one_head import describe_on
from agent.pipeline.worker import HeadDone, HeadWorker
from agent.runs.claims import claim_heads
from agent.runs.database import open_database
from agent.runs.state import counts, finish_run
from agent.runs.stored import stored_head, stored_heads
from agent.runs.tables import list_runs, show_run
from agent.runs.workers import is_dead, kept_replies, release_dead, worker_name
from maps_engine.fitting import MOST_WORDS
from maps_engine.results import EngineSettings
from tests.support.agent.bulk_runs import QueueDescriber, letter_bench, tiny_request
from tests.support.record_fixtures import *  # noqa: F403


def never() -> bool:
    return False


class Stopping:
    """Says stop after `n` heads were recorded, and keeps the events."""

    def __init__(self, n: int = 10**9) -> None:
        self.n, self.events = n, []

    def __call__(self, event) -> None:
        self.events.append(event)

    def stop(self) -> bool:
        return sum(isinstance(e, HeadDone) for e in self.events) >= self.n


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tmp_path_factory.mktemp("model") / "tiny"


@pytest.fixture
def planned(model, tmp_path, monkeypatch):
    """`planned(describer, **changes of the request)` -> a Plan on one database file."""

    def make(describer=None, **changes) -> Plan:
        request = tiny_request(model, store_folder=tmp_path / "chroma", **changes)
        monkeypatch.setattr(bulk, "open_workbench", lambda r, device=None: letter_bench(r, describer))
        return prepare(request, database=str(tmp_path / "records.sqlite"), lease_seconds=60)

    return make


def rows_of(plan: Plan):
    rows = [one.to_json() for one in stored_heads(plan.database, plan.job.run_id)]
    return [{k: v for k, v in row.items() if k != "run"} for row in rows]


def test_all_heads_are_labelled_with_everything_recorded(planned):
    describer, seen = QueueDescriber(), Stopping()
    plan = planned(describer)
    outcome = label(plan, on_event=seen, stop=never)
    assert (outcome.state, outcome.labelled, outcome.counts.total) == ("finished", 8, 8)
    assert sorted(describer.asked) == [(layer, head) for layer in range(2) for head in range(4)]
    rows = rows_of(plan)
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "ok", "unclear", "failed", "ok", "ok"]
    assert rows[5]["raw_reply"] == "a\x00b"
    assert rows[5]["reason"]
    for row in rows:
        assert len(row["rows"]) == 8
        assert row["provenance"]["settings"]["source"] == "embedding"
        assert "source_choice" not in row["provenance"]
        assert row["test"]["reason"] != NOT_TESTED
        assert (row["category"] is None) == (row["status"] != "ok")
    assert {row["category"] for row in rows if row["status"] == "ok"} == {"algorithmic", "knowledge", "other"}
    assert show_run(plan.database, plan.job.run_id).state == "finished"
    done = [e for e in seen.events if isinstance(e, HeadDone)]
    assert len(done) == 8


def test_the_lexical_describer_gives_what_describe_head_gives(planned):
    plan = planned()
    label(plan, on_event=Stopping(), stop=never)
    for row in rows_of(plan)[::3]:
        alone = describe_on(plan.bench, row["layer"], row["head"]).report
        assert alone.description.operation == row["operation"]
        assert alone.test.to_json() == row["test"]
        assert [t["token"] for t in row["rows"]] == [t.token for t in alone.mapping.rows]


def test_the_same_request_continues_and_any_other_is_a_new_run(planned):
    describer = QueueDescriber()
    first = planned(describer)
    label(first, on_event=Stopping(), stop=never)
    again = planned(describer)
    assert (again.job.run_id, again.created, again.before.done) == (first.job.run_id, False, 8)
    finished = show_run(first.database, first.job.run_id).finished
    outcome = label(again, on_event=Stopping(), stop=never)
    assert (outcome.state, outcome.labelled) == ("finished", 0)
    assert show_run(first.database, first.job.run_id).finished == finished
    assert len(describer.asked) == 8
    settings = replace(first.job.request.settings, top=5)
    assert planned(describer, settings=settings).created
    assert planned(None).created
    assert len(list_runs(first.database)) == 3


def test_a_choice_of_heads_grows_to_the_whole_run(planned):
    describer = QueueDescriber()
    part = planned(describer, layers="1", heads="0,2-3")
    assert label(part, on_event=Stopping(), stop=never).counts.total == 3
    assert sorted(describer.asked) == [(1, 0), (1, 2), (1, 3)]
    whole = planned(describer)
    assert (whole.job.run_id, whole.before.done, whole.before.total) == (part.job.run_id, 3, 8)
    label(whole, on_event=Stopping(), stop=never)
    assert len(describer.asked) == len(set(describer.asked)) == 8


def test_stopping_finishes_what_is_in_flight_and_the_rest_is_done_later(planned):
    undisturbed = QueueDescriber()
    describer, seen = QueueDescriber(), Stopping(2)
    plan = planned(describer, heads_at_once=4)
    outcome = label(plan, on_event=seen, stop=seen.stop)
    assert (outcome.state, outcome.counts.done) == ("stopped", 4)  # the batch in hand is finished
    assert outcome.counts.claimed == 0
    assert show_run(plan.database, plan.job.run_id).state == "stopped"
    outcome = label(planned(describer), on_event=Stopping(), stop=never)
    assert (outcome.state, outcome.labelled) == ("finished", 4)
    assert len(describer.asked) == 8
    assert undisturbed.asked == []


def test_stopping_while_replies_are_awaited_keeps_those_that_came(planned, monkeypatch):
    describer = QueueDescriber()
    asked = threading.Event()
    describe = describer.describe

    def slow(evidence):
        asked.set()
        return describe(evidence)

    describer.describe = slow
    plan = planned(describer, workers=2)
    outcome = label(plan, on_event=Stopping(), stop=asked.is_set)
    assert outcome.state == "stopped"
    assert 1 <= outcome.counts.done <= 4
    assert outcome.counts.done == len(describer.asked)
    label(planned(describer), on_event=Stopping(), stop=never)
    assert len(describer.asked) == len(set(describer.asked)) == 8


def test_a_killed_process_loses_no_reply_that_came(planned, monkeypatch):
    """Killed between the replies and the tests: the next process tests them without asking again."""
    describer = QueueDescriber()
    plan = planned(describer)
    with monkeypatch.context() as patch:
        patch.setattr(HeadWorker, "_store", lambda self, reports: (_ for _ in ()).throw(SystemExit))
        patch.setattr(HeadWorker, "_give_back", lambda self: None)
        with pytest.raises(SystemExit):
            label(plan, on_event=Stopping(), stop=never)
    assert len(describer.asked) == 8
    now = counts(plan.database, plan.job.run_id)
    assert (now.done, now.claimed) == (0, 8)
    assert list(stored_heads(plan.database, plan.job.run_id)) == []  # untested is not done
    kept = kept_replies(plan.database, plan.job.run_id, plan.job.keys)
    assert len(kept) == 7  # the failed one is asked again
    pretend_dead(plan)
    label(planned(describer), on_event=Stopping(), stop=never)
    assert describer.asked[8:] == [(1, 1)]
    other = QueueDescriber()
    other.name = "openai:other"
    undisturbed = planned(other)
    label(undisturbed, on_event=Stopping(), stop=never)
    assert comparable(rows_of(plan)) == comparable(rows_of(undisturbed))


def comparable(rows):
    dropped = ("describer", "provenance")
    return [{k: v for k, v in row.items() if k not in dropped} for row in rows]


def pretend_dead(plan: Plan) -> None:
    """Make the claims those of a process of this machine that has ended."""
    from sqlalchemy import update

    from agent.runs.database import writing
    from agent.runs.records import HeadRecord

    host, _, began, tail = worker_name().split("|")
    with writing(plan.database) as session:
        dead = f"{host}|{2**22 + 7}|{began}|{tail}"
        session.execute(update(HeadRecord).where(HeadRecord.state == "claimed").values(claimed_by=dead))


def expire_claims(plan: Plan) -> None:
    """Let every lease run out."""
    from sqlalchemy import update

    from agent.runs.database import writing
    from agent.runs.records import HeadRecord

    with writing(plan.database) as session:
        session.execute(update(HeadRecord).where(HeadRecord.state == "claimed").values(claim_expires=0.0))


def test_claims_of_dead_processes_are_given_back_at_once_and_of_living_ones_kept(planned):
    plan = planned(QueueDescriber())
    run = plan.job.run_id
    claim_heads(plan.database, run, worker=worker_name(), limit=3)
    assert release_dead(plan.database, run) == 0
    pretend_dead(plan)
    claim_heads(plan.database, run, worker="elsewhere|1|2|3", limit=2)
    assert release_dead(plan.database, run) == 3
    assert counts(plan.database, run).claimed == 2


@pytest.mark.parametrize("name", ["", "x", "a|b|c|d", "elsewhere|999999999|1|x"])
def test_workers_that_cannot_be_known_count_as_living(name):
    assert not is_dead(name)


def test_a_recycled_process_number_is_another_process():
    host, pid, _, tail = worker_name().split("|")
    assert not is_dead(worker_name())
    assert is_dead(f"{host}|{pid}|1|{tail}")


def test_a_run_waits_for_heads_of_others_and_takes_them_over(planned, monkeypatch):
    monkeypatch.setattr(head_worker, "WAIT_SECONDS", 0.01)
    plan = planned(QueueDescriber())
    claim_heads(plan.database, plan.job.run_id, worker="elsewhere|1|2|3", limit=3, lease_seconds=600)
    waited = []

    def tell(event) -> None:
        if getattr(event, "text", "") == "waiting for other processes" and not waited:
            waited.append(event)
            expire_claims(plan)

    assert label(plan, on_event=tell, stop=never).counts.done == 8
    assert waited


def test_two_workers_never_label_a_head_twice(planned, monkeypatch):
    monkeypatch.setattr(head_worker, "WAIT_SECONDS", 0.01)
    describer = QueueDescriber()
    plan = planned(describer, heads_at_once=4)
    elsewhere = plan.job.request.store_folder.parent / "chroma2"
    other = letter_bench(replace(plan.job.request, store_folder=elsewhere), describer)
    seen = [Stopping(), Stopping()]
    workers = [HeadWorker(plan.job, s, plan.database, e, never) for s, e in zip((plan.bench, other), seen, strict=True)]
    threads = [threading.Thread(target=w.run) for w in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [(e.layer, e.head) for s in seen for e in s.events if isinstance(e, HeadDone)]
    assert len(done) == len(set(done)) == 8
    assert len(describer.asked) == len(set(describer.asked)) == 8


def test_a_lost_lease_is_not_recorded(planned):
    plan = planned(QueueDescriber())
    job = replace(plan.job, lease_seconds=60)
    worker = HeadWorker(job, plan.bench, plan.database, Stopping(), never)
    claimed = worker._claim()
    pretend_dead(plan)
    release_dead(plan.database, job.run_id)
    worker._label(claimed)
    assert counts(plan.database, job.run_id).done == 0


def test_a_describer_that_is_down_stops_the_run_and_marks_no_head(planned, monkeypatch):
    monkeypatch.setattr(flow, "FAILURES_IN_A_ROW", 5)
    describer = QueueDescriber(after=2)
    plan = planned(describer, workers=1)
    with pytest.raises(DescriberDown, match="5 descriptions in a row failed: got no answer within 60 s"):
        label(plan, on_event=Stopping(), stop=never)
    now = counts(plan.database, plan.job.run_id)
    assert (now.done, now.claimed) == (0, 0)
    assert show_run(plan.database, plan.job.run_id).state == "stopped"
    healthy = QueueDescriber()
    label(planned(healthy), on_event=Stopping(), stop=never)
    assert len(healthy.asked) == 6  # the two replies were kept


def test_failed_heads_are_described_again_on_demand(planned, tmp_path):
    describer = QueueDescriber()
    plan = planned(describer)
    label(plan, on_event=Stopping(), stop=never)
    again = prepare(plan.job.request, database=str(tmp_path / "records.sqlite"), retry_failed=True)
    assert again.before.done == 7
    label(again, on_event=Stopping(), stop=never)
    assert describer.asked[8:] == [(1, 1)]


def test_failed_heads_that_were_not_asked_for_keep_their_reasons(planned, tmp_path):
    plan = planned(QueueDescriber())
    label(plan, on_event=Stopping(), stop=never)
    others = replace(plan.job.request, layers="0")
    again = prepare(others, database=str(tmp_path / "records.sqlite"), retry_failed=True)
    label(again, on_event=Stopping(), stop=never)
    run = show_run(plan.database, plan.job.run_id)
    assert (run.counts.failed, run.counts.done, run.state) == (1, 8, "finished")


def test_a_run_left_running_by_a_process_that_died_is_put_right(planned):
    plan = planned(QueueDescriber())
    label(plan, on_event=Stopping(), stop=never)
    finish_run(plan.database, plan.job.run_id, state="running")
    assert label(planned(QueueDescriber()), on_event=Stopping(), stop=never).labelled == 0
    assert show_run(plan.database, plan.job.run_id).state == "finished"


def test_asking_for_heads_that_are_done_does_not_stop_a_run_at_work(planned):
    describer = QueueDescriber()
    label(planned(describer, layers="1"), on_event=Stopping(), stop=never)
    whole = planned(describer)
    finish_run(whole.database, whole.job.run_id, state="running")  # somebody is at work on the rest
    label(planned(describer, layers="1"), on_event=Stopping(), stop=never)
    assert show_run(whole.database, whole.job.run_id).state == "running"


def test_what_another_process_labelled_is_not_counted_as_ours(planned):
    first, second = planned(QueueDescriber()), planned(QueueDescriber())
    label(first, on_event=Stopping(), stop=never)
    assert label(second, on_event=Stopping(), stop=never).labelled == 0


def test_a_database_that_cannot_be_written_stops_clearly_and_is_continued(planned, monkeypatch):
    """A full disk as SQLite reports it: the pages are capped."""
    describer = QueueDescriber()
    plan = planned(describer)
    from sqlalchemy import event

    @event.listens_for(plan.database, "begin")
    def capped(connection):
        connection.exec_driver_sql("PRAGMA max_page_count = 60")

    with monkeypatch.context() as patch:
        patch.setattr("agent.pipeline.backends.local.open_database", lambda _: plan.database)
        patch.setattr(type(plan.database), "dispose", lambda self: None)
        with pytest.raises(DatabaseUnusable, match="full"):
            label(plan, on_event=Stopping(), stop=never)
    event.remove(plan.database, "begin", capped)
    fresh = planned(describer)
    pretend_dead(fresh)
    assert label(fresh, on_event=Stopping(), stop=never).state == "finished"


@pytest.mark.slow
def test_the_same_on_postgresql(planned, model, tmp_path, request, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        url = request.getfixturevalue("postgres_url")
    sqlite = planned(QueueDescriber())
    label(sqlite, on_event=Stopping(), stop=never)
    plan = prepare(sqlite.job.request, database=url)
    assert plan.job.database.startswith("postgresql+psycopg://")
    assert label(plan, on_event=Stopping(), stop=never).state == "finished"
    assert comparable(rows_of(plan)) == comparable(rows_of(sqlite))
    plan.database.dispose()


def test_stored_mappings_say_their_real_source(planned):
    settings = EngineSettings(source="auto", top=8, targets=3)
    plan = planned(QueueDescriber(), settings=settings)
    label(plan, on_event=Stopping(), stop=never)
    stored = stored_head(plan.database, plan.job.run_id, 1, 0)
    assert stored.mapping.source == stored.source == "residual"
    assert stored.settings == replace(settings, source="residual", words=MOST_WORDS)


def test_opening_a_database_twice_is_harmless(tmp_path):
    for _ in range(2):
        open_database(str(tmp_path / "x.sqlite")).dispose()
