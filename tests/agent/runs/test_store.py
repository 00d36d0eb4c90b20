"""Runs, claims and results, on real SQLite and real PostgreSQL."""

from __future__ import annotations

import multiprocessing
import socket
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Engine, inspect, text

from agent.errors import BadDatabaseUrl, DatabaseUnusable, UnknownRun
from agent.runs.claims import claim_heads, release_claims, renew_claims, retry_heads
from agent.runs.database import create_engine_for, database_url, open_database, reading, upgrade_database, writing
from agent.runs.head_rows import fold
from agent.runs.identity import ModelCard, RunIdentity
from agent.runs.records import Base, RunRecord, storable
from agent.runs.relation_scores import RelationScore, store_relation_scores
from agent.runs.state import counts, finish_run, newest_run
from agent.runs.store import OpenedRun, open_run, store_result
from agent.runs.stored import stored_head, stored_heads
from agent.runs.tables import compare_runs, delete_run, list_runs, show_run
from maps_engine.model import ModelShape
from maps_engine.results import EngineSettings
from tests.support.agent.claim_worker import work
from tests.support.believable import HOSTILE, SETTINGS, a_mapping, a_report, identity_of
from tests.support.record_fixtures import *  # noqa: F403

CARD = ModelCard("org/Tiny 1.0", "sha256:tiny", ModelShape(3, 4, 2, 16, 4, 99))
IDENTITY = RunIdentity("sha256:tiny", SETTINGS, "abc", "lexical", {"threshold": 0.5})


def opened(engine: Engine, **options: object) -> OpenedRun:
    return open_run(engine, card=CARD, identity=IDENTITY, **options)  # type: ignore[arg-type]


def test_same_identity_reuses_the_run_and_any_change_is_a_new_one(any_engine: Engine) -> None:
    first = opened(any_engine)
    again = opened(any_engine)
    assert first.created
    assert (again.run_id, again.created) == (first.run_id, False)
    for changed in (
        replace(IDENTITY, prompt_hash="other"),
        replace(IDENTITY, describer="llm"),
        replace(IDENTITY, describer_settings={"threshold": 0.6}),
        replace(IDENTITY, engine=EngineSettings(source="embedding")),
    ):
        other = open_run(any_engine, card=CARD, identity=changed)
        assert other.created
        assert other.model_id == first.model_id
    assert len(list_runs(any_engine)) == 5


def test_another_checkpoint_of_the_same_name_gets_its_own_address(any_engine: Engine) -> None:
    opened(any_engine)
    card = replace(CARD, fingerprint="sha256:other567")
    run = open_run(any_engine, card=card, identity=replace(IDENTITY, fingerprint=card.fingerprint))
    assert run.created
    assert show_run(any_engine, run.run_id).model == "org/Tiny 1.0"


def test_claims_are_disjoint_expire_renew_and_are_released(any_engine: Engine) -> None:
    run = opened(any_engine, now=0.0).run_id
    first = claim_heads(any_engine, run, worker="a", limit=5, lease_seconds=10, now=0)
    second = claim_heads(any_engine, run, worker="b", limit=100, lease_seconds=10, now=1)
    assert (len(first), len(second)) == (5, 7)
    assert not set(first) & set(second)
    assert claim_heads(any_engine, run, worker="c", limit=9, now=2) == []
    assert renew_claims(any_engine, run, worker="b", lease_seconds=10, now=9) == 7
    assert claim_heads(any_engine, run, worker="c", limit=99, lease_seconds=99, now=12) == first
    assert release_claims(any_engine, run, worker="b") == 7
    assert counts(any_engine, run).waiting == 7
    assert counts(any_engine, run).claimed == 5


def test_a_worker_that_lost_its_claim_stores_nothing(any_engine: Engine) -> None:
    run = opened(any_engine).run_id
    claim_heads(any_engine, run, worker="slow", limit=1, lease_seconds=1, now=0)
    claim_heads(any_engine, run, worker="quick", limit=1, lease_seconds=100, now=5)
    report = a_report(a_mapping(0, 0, operation="antonym"), "antonym")
    assert not store_result(any_engine, run, report, worker="slow")
    assert store_result(any_engine, run, report, worker="quick")
    assert not store_result(any_engine, run, report, worker="quick"), "done is done"
    assert counts(any_engine, run).ok == 1


def test_a_result_comes_back_as_it_went_in_hostile_tokens_included(any_engine: Engine) -> None:
    run = opened(any_engine).run_id
    mapping = replace(a_mapping(1, 2, operation="antonym", hostile=True), model=CARD.name, fingerprint=CARD.fingerprint)
    with pytest.raises(UnknownRun, match="no result for this head: got run 1, layer 1, head 2"):
        stored_head(any_engine, run, 1, 2)
    store_result(any_engine, run, a_report(mapping, None, "failed"), category=None)
    stored = stored_head(any_engine, run, 1, 2)
    assert all(part.held_out_rows for part in mapping.parts)
    parts = tuple(replace(part, held_out_rows=()) for part in mapping.parts)  # no test reads these again
    assert stored.mapping == replace(mapping, parts=parts)
    assert (stored,) == tuple(stored_heads(any_engine, run))
    assert stored.raw_reply == "Sure! Here is\x00 the answer"
    assert (stored.status, stored.operation) == ("failed", "")
    assert [row.token for row in stored.rows[: len(HOSTILE)]] == list(HOSTILE)
    assert retry_heads(any_engine, run) == 1
    store_result(any_engine, run, a_report(mapping, None, "failed"))  # again: replaces, does not pile up
    with any_engine.connect() as connection:
        n, distinct = connection.execute(text("SELECT count(*), count(DISTINCT side || term) FROM search_terms")).one()
    assert n == distinct > 30


def test_counts_retry_and_finish(any_engine: Engine) -> None:
    run = opened(any_engine).run_id
    for head, status in enumerate(("ok", "unclear", "failed", "failed")):
        report = a_report(a_mapping(0, head, operation="copying"), "copying", status)
        store_result(any_engine, run, report)
    n = counts(any_engine, run)
    assert (n.ok, n.unclear, n.failed, n.waiting, n.total, n.done) == (1, 1, 2, 8, 12, 4)
    assert retry_heads(any_engine, run) == 2
    assert counts(any_engine, run).failed == 0
    finish_run(any_engine, run, now=5)
    assert show_run(any_engine, run).finished == 5
    assert opened(any_engine, heads=[(0, 0)]).run_id == run
    assert show_run(any_engine, run).state == "finished"


def test_compare_export_and_delete(any_engine: Engine) -> None:
    first = opened(any_engine).run_id
    other = replace(IDENTITY, describer="llm:x")
    second = open_run(any_engine, card=CARD, identity=other).run_id
    for run, operation in ((first, "antonym"), (second, "past tense")):
        store_result(any_engine, run, a_report(a_mapping(0, 0, operation="antonym"), operation))
        store_result(any_engine, run, a_report(a_mapping(0, 1, operation="copying"), "copying"))
    store_result(any_engine, second, a_report(a_mapping(0, 2, operation="copying"), "copying"))
    found = compare_runs(any_engine, first, second)
    assert found.settings == {"describer": ("lexical", "llm:x")}
    assert found.same == 1
    assert [(d.head, d.first is None) for d in found.different] == [(0, False)]
    assert [(d.head, d.first is None) for d in found.only_in_one] == [(2, True)]
    delete_run(any_engine, first)
    with any_engine.connect() as connection:
        for table in ("heads", "search_terms"):
            left = connection.execute(text(f"SELECT count(*) FROM {table} WHERE run_id = {first}")).scalar()
            assert left == 0, table
    with pytest.raises(UnknownRun, match="no such run: got 1"):
        counts(any_engine, first)


def test_unknown_heads_are_refused(sqlite_engine: Engine) -> None:
    run = opened(sqlite_engine, heads=[(0, 0)]).run_id
    with pytest.raises(UnknownRun, match="layer 2, head 3"):
        stored_head(sqlite_engine, run, 2, 3)
    with pytest.raises(UnknownRun, match="no such head: got layer 2, head 3"):
        store_result(sqlite_engine, run, a_report(a_mapping(2, 3, operation="antonym"), "antonym"))


def test_relation_scores_replace_by_relation(any_engine: Engine) -> None:
    model = opened(any_engine).model_id
    score = RelationScore("antonym", "linguistic", 0, 1, 0.5, 0.1, 10, 99)
    for value in (0.5, 0.7):
        assert store_relation_scores(any_engine, model, [replace(score, score=value)], settings=SETTINGS) == 1
    with any_engine.connect() as connection:
        assert connection.execute(text("SELECT score FROM relation_scores")).scalars().all() == [0.7]


def test_three_processes_on_one_run_label_every_head_once(any_engine: Engine) -> None:
    run = opened(any_engine).run_id
    url = any_engine.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(url, run, f"w{i}")) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    n = counts(any_engine, run)
    assert (n.total, n.unclear, n.claimed, n.waiting) == (12, 12, 0, 0)


def test_claims_race_in_threads(any_engine: Engine) -> None:
    card = replace(CARD, shape=ModelShape(20, 10, 2, 16, 4, 99))
    run = open_run(any_engine, card=card, identity=IDENTITY).run_id
    taken: list[tuple[int, int]] = []

    def take(name: str) -> None:
        while got := claim_heads(any_engine, run, worker=name, limit=3):
            taken.extend(got)

    threads = [threading.Thread(target=take, args=(f"t{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 200
    assert max(Counter(taken).values()) == 1


def test_a_write_holds_the_lock_from_its_first_read(sqlite_engine: Engine) -> None:
    with writing(sqlite_engine) as session:
        session.execute(text("SELECT count(*) FROM runs"))
        other = sqlite3.connect(str(sqlite_engine.url.database), timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_sqlite_settings(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        ]
    assert values == ["wal", 5000, 1, 2]


def test_migrations_make_exactly_the_tables_of_the_models(any_engine: Engine) -> None:
    upgrade_database(any_engine)  # a second time: nothing to do
    found = inspect(any_engine)
    for name, table in Base.metadata.tables.items():
        assert {c["name"] for c in found.get_columns(name)} == {c.name for c in table.columns}, name
        nullable = {c["name"] for c in found.get_columns(name) if c["nullable"]}
        assert nullable == {c.name for c in table.columns if c.nullable}, name
        assert {i["name"] for i in found.get_indexes(name)} >= {str(i.name) for i in table.indexes}


def test_processes_that_open_a_new_database_together(tmp_path: Path) -> None:
    url, errors = str(tmp_path / "new" / "records.sqlite"), []

    def open_it() -> None:
        try:
            open_database(url).dispose()
        except DatabaseUnusable as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_database_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADSCRIBE_DATA", str(tmp_path))
    monkeypatch.delenv("HEADSCRIBE_DATABASE", raising=False)
    assert database_url().database == str(tmp_path / "records.sqlite")
    monkeypatch.setenv("HEADSCRIBE_DATABASE", "postgresql://u:secret@h/n")
    assert database_url().drivername == "postgresql+psycopg"
    assert database_url("some/file.db").database == "some/file.db"
    for bad in ("mysql://u:secret@h/n", "post gres://"):
        with pytest.raises(BadDatabaseUrl) as caught:
            database_url(bad)
        assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello " * 1000)
    with pytest.raises(DatabaseUnusable, match="file is not a database"):
        open_database(str(path))
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnusable, match="cannot make the folder"):
        create_engine_for(str(tmp_path / "file" / "x.sqlite"))


def test_a_spoilt_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    engine = open_database(str(path))
    opened(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
        root = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").scalar_one()
    engine.dispose()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(DatabaseUnusable, match="malformed"):
        list_runs(create_engine_for(str(path)))


def test_a_database_of_a_newer_version_is_one_clear_line(tmp_path: Path) -> None:
    engine = open_database(str(tmp_path / "r.sqlite"))
    with writing(engine) as session:
        session.execute(text("UPDATE records_version SET version_num = '9999_future'"))
    engine.dispose()
    with pytest.raises(DatabaseUnusable, match="made by a newer headscribe"):
        open_database(str(tmp_path / "r.sqlite"))


@pytest.mark.parametrize("address", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_would_be_lost(address: str) -> None:
    with pytest.raises(BadDatabaseUrl):
        database_url(address)


@pytest.mark.parametrize("address", ["~/runs/r.sqlite", "sqlite:///~/runs/r.sqlite"])
def test_the_home_folder_in_an_address(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_database(address).dispose()
    assert (tmp_path / "runs" / "r.sqlite").exists()


def test_a_home_that_nobody_has_is_a_name_like_any_other() -> None:
    assert database_url("~nobody-of-that-name/r.sqlite").database == "~nobody-of-that-name/r.sqlite"


@pytest.mark.slow
def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.runs.database.ANSWER_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DatabaseUnusable, match="timeout"):
        open_database(f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")


def test_processes_that_open_a_new_run_together(any_engine: Engine) -> None:
    start = threading.Barrier(4)

    def open_it(_: int) -> OpenedRun:
        start.wait()
        return opened(any_engine)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(open_it, range(4)))
    assert len({one.run_id for one in found}) == 1
    assert sum(one.created for one in found) == 1


@given(st.text())
@settings(max_examples=60)
def test_any_text_can_be_stored_and_folded(token: str) -> None:
    for out in (storable(token), fold(token)):
        assert "\x00" not in out
        out.encode("utf-8")
    assert 1 <= len(fold(token)) <= 120


def test_slugs_are_safe_parts_of_an_address() -> None:
    names = {"org/Tiny 1.0": "org-tiny-1.0", "api": "api-model", "../../etc": "etc", "///": "model"}
    for name, slug in names.items():
        assert replace(CARD, name=name).slug == slug
    assert identity_of("a").hash() != identity_of("b").hash()


def test_a_head_described_alone_does_not_become_the_run_that_is_shown(any_engine: Engine) -> None:
    """`describe-head` with other settings makes a run of one head, newer than the run of all heads."""

    def newest(*where: ColumnElement[bool]) -> int | None:
        with reading(any_engine) as session:
            run = newest_run(session, *where)
            return run.id if run is not None else None

    def recorded(identity: RunIdentity, heads: list[tuple[int, int]]) -> int:
        run = open_run(any_engine, card=CARD, identity=identity, heads=heads).run_id
        for layer, head in heads:
            mapping = replace(a_mapping(layer, head, operation="antonym"), fingerprint=CARD.fingerprint)
            store_result(any_engine, run, a_report(mapping, "antonym"))
        return run

    assert newest() is None
    alone = recorded(replace(IDENTITY, describer="llm:x"), [(0, 1)])
    assert newest() == alone
    layer = recorded(IDENTITY, [(1, head) for head in range(4)])
    later = recorded(replace(IDENTITY, describer="llm:y"), [(2, 0)])
    assert newest() == layer
    assert newest(RunRecord.describer == "llm:y") == later
    open_run(any_engine, card=CARD, identity=replace(IDENTITY, describer="llm:z"))  # nothing is done in it
    assert newest() == layer
