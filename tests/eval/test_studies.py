"""Studies on real SQLite and PostgreSQL: rows 2, 5, 6, 7, 8, 9, 11 and 19 of RATING below the browser."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, text, update

from agent.database import reading, writing
from eval.errors import BadAnswer, BadImport, BadStudy, ContentChanged, NotAllowed
from eval.rating.items import described_heads, heads_from_jsonl
from eval.rating.people import invite, new_api_token, redeem, scopes_of, sign_out, who_is, whose_link
from eval.rating.ratings import Answer, own_rating, own_ratings, save, save_draft
from eval.rating.slots import confirm_instructions, next_screen
from eval.rating.store import backup, open_studies
from eval.rating.studies import (
    StudySettings,
    audit_trail,
    close_study,
    create_study,
    get_study,
    launch,
    progress,
    verify,
)
from eval.rating.tables import Base, Item, Rating, RatingVersion, Slot
from tests.believable import Believable
from tests.eval.race_worker import rate_everything
from tests.eval.study_help import YES, items_of, launched, launched_from_run, rater, simple_heads, work

NO = Answer("no", "no", "hm")
PER_ITEM = """SELECT item_id, count(*), count(DISTINCT rater_id) FROM ratings
              WHERE counted AND skip_reason IS NULL GROUP BY item_id"""


def test_migrations_make_exactly_the_rating_tables(studies: Engine) -> None:
    found = inspect(studies)
    for name, table in Base.metadata.tables.items():
        columns = {(c["name"], c["nullable"]) for c in found.get_columns(name)}
        assert columns == {(c.name, c.nullable) for c in table.columns}, name


@pytest.mark.parametrize("n_raters", [8])
def test_row_02_exactly_k_under_races_of_threads(studies: Engine, n_raters: int) -> None:
    study = launched(studies, 20, k=3)
    people = [rater(studies, study) for _ in range(n_raters)]
    errors: list[Exception] = []

    def go(person: int) -> None:
        try:
            work(studies, person)
        except Exception as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=go, args=(p,)) for p in people for _ in (1, 2)]  # two windows each
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with studies.connect() as connection:
        rows = connection.execute(text(PER_ITEM)).all()
    assert len(rows) == 20
    assert {(n, distinct) for _, n, distinct in rows} == {(3, 3)}
    p = progress(studies, study)
    assert (p.slots, p.done, p.free, p.leased) == (60, 60, 0, 0)


def test_row_02_exactly_k_under_races_of_processes(studies: Engine) -> None:
    study = launched(studies, 8, k=2)
    people = [rater(studies, study) for _ in range(3)]
    url = studies.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=rate_everything, args=(url, p)) for p in people]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with studies.connect() as connection:
        rows = connection.execute(text(PER_ITEM)).all()
    assert {(n, distinct) for _, n, distinct in rows} == {(2, 2)}
    assert len(rows) == 8


def test_row_05_resume_with_draft(studies: Engine) -> None:
    study = launched(studies)
    person = rater(studies, study)
    first = next_screen(studies, person)
    save_draft(studies, person, first.public_id, Answer("no", None, "half a \x00 thought"))
    again = next_screen(studies, person)
    assert again.public_id == first.public_id
    assert again.draft == {"pattern": "no", "note": "half a ␀ thought"}
    save(studies, person, first.public_id, YES)
    save_draft(studies, person, first.public_id, NO)  # arrives late: changes nothing
    assert own_rating(studies, person, first.public_id).answer == YES
    assert next_screen(studies, person).public_id != first.public_id


def test_row_06_edit_keeps_one_value_and_the_history(studies: Engine) -> None:
    study = launched(studies)
    person = rater(studies, study)
    item = next_screen(studies, person).public_id
    for answer in (YES, YES, NO, YES):  # the second is a retry
        save(studies, person, item, answer)
    (own,) = own_ratings(studies, person)
    assert (own.answer, own.version) == (YES, 3)
    with reading(studies) as session:
        assert len(session.scalars(select(Rating)).all()) == 1
        values = [v.answer["plausible"] for v in session.scalars(select(RatingVersion))]
    assert values == ["yes", "no", "yes"]
    assert [e.what for e in audit_trail(studies, study)][:3] == ["changed", "changed", "rated"]


def test_row_07_skip_needs_a_reason_and_frees_the_place(studies: Engine) -> None:
    study = launched(studies, 1, k=2)
    a, b, c = (rater(studies, study) for _ in range(3))
    item = next_screen(studies, a).public_id
    with pytest.raises(BadAnswer, match="why you skip"):
        save(studies, a, item, Answer(skip_reason="  "))
    save(studies, a, item, Answer(skip_reason="I do not read Thai"))
    assert next_screen(studies, a).state == "finished"
    work(studies, b)
    work(studies, c)
    p = progress(studies, study)
    assert (p.slots, p.done, p.skipped) == (2, 2, 1)
    assert not save(studies, a, item, YES).counted, "both places are taken by now"


def test_a_skip_taken_back_takes_its_place_again(studies: Engine) -> None:
    study = launched(studies, 1, k=1)
    a = rater(studies, study)
    item = next_screen(studies, a).public_id
    save(studies, a, item, Answer(skip_reason="phone"))
    assert save(studies, a, item, YES).counted
    p = progress(studies, study)
    assert (p.slots, p.done, p.skipped, p.free) == (1, 1, 0, 0)


def test_row_08_progress_counts_and_finish(studies: Engine) -> None:
    study = launched(studies, 3, k=1)
    person = rater(studies, study)
    seen = []
    while (screen := next_screen(studies, person)).state == "item":
        seen.append((screen.done, screen.total))
        save(studies, person, screen.public_id, YES, now=1000 + screen.done)
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert (screen.state, screen.done, screen.total, screen.last_saved) == ("finished", 3, 3, 1002)


def test_items_per_rater_is_a_limit(studies: Engine) -> None:
    study = launched(studies, 10, k=1, items_per_rater=4)
    assert len(work(studies, rater(studies, study))) == 4


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        (Answer(None, "yes"), "pattern"),
        (Answer("yes", "maybe"), "plausible"),
        (Answer("yes", "yes", "x" * 2001), "note"),
        (Answer(skip_reason="y" * 2001), "skip_reason"),
    ],
)
def test_bad_answers_are_named(answer: Answer, field: str) -> None:
    assert list(answer.problems()) == [field]


def test_row_09_links_open_once_and_codes_reopen(studies: Engine) -> None:
    study = launched(studies)
    name, token = invite(studies, study_id=study, now=0.0)
    assert (name, whose_link(studies, token, now=1)) == ("R1", ("R1", False))
    first = redeem(studies, token, now=1)
    assert first.resume_code is not None
    for wrong in ("", "aaaa-bbbb-cccc"):
        with pytest.raises(NotAllowed, match="used before"):
            redeem(studies, token, code=wrong, now=2)
    second = redeem(studies, token, code=first.resume_code.upper(), now=2)
    assert second.who == first.who
    assert second.resume_code is None
    assert who_is(studies, second.secret, now=3) == first.who
    sign_out(studies, second.secret)
    assert who_is(studies, second.secret, now=3) is None
    assert who_is(studies, first.secret, now=40 * 86400) is None, "sign-ins end"
    _, fresh = invite(studies, study_id=study, name="R1", now=4)
    assert who_is(studies, first.secret, now=5) is None, "a new link ends everything old"
    with pytest.raises(NotAllowed, match="not valid"):
        redeem(studies, token, code=first.resume_code, now=5)
    assert redeem(studies, fresh, now=5).who == first.who
    with pytest.raises(NotAllowed, match="not valid"):
        redeem(studies, fresh, now=61 * 86400)


def test_row_09_a_dump_of_the_database_holds_nothing_usable(tmp_path: Path) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    study = launched(engine)
    _, token = invite(engine, study_id=study)
    got = redeem(engine, token)
    api = new_api_token(engine, name="ci", scopes=("read",))
    engine.dispose()
    dump = "\n".join(sqlite3.connect(tmp_path / "s.sqlite").iterdump())
    raw = (tmp_path / "s.sqlite").read_bytes()
    code = (got.resume_code or "").replace("-", "")
    for secret in (token, got.secret, got.resume_code or "", code, api):
        assert secret not in dump
        assert secret.encode() not in raw


def test_api_tokens_have_scopes_and_end(studies: Engine) -> None:
    token = new_api_token(studies, name="ci", scopes=("read", "export"), days=1, now=0)
    assert scopes_of(studies, token, now=5) == {"read", "export"}
    assert scopes_of(studies, token, now=90000) is None
    assert scopes_of(studies, "hs_nothing") is None
    for bad in ((), ("root",)):
        with pytest.raises(NotAllowed, match="unknown scope"):
            new_api_token(studies, name="x", scopes=bad)


def test_row_11_practice_attention_and_control(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, n_heads=10, control_share=0.3, practice=2, attention=2)
    items = items_of(engine, study)
    kinds = Counter(item.kind for item in items.values())
    assert kinds == {"real": 10, "control": 3, "practice": 2, "attention": 2}
    real = {(i.origin["layer"], i.origin["head"]) for i in items.values() if i.kind == "real"}
    by_head = {(h.origin["layer"], h.origin["head"]): h for h in described_heads(engine, facts.run_id)}
    for control in (i for i in items.values() if i.kind == "control"):
        host, donor = control.origin, control.origin["swapped_from"]
        assert (host["layer"], host["head"]) not in real
        shown = control.content["description"]
        assert shown == by_head[donor["layer"], donor["head"]].description
        assert shown != by_head[host["layer"], host["head"]].description
        assert control.content["rows"] == list(by_head[host["layer"], host["head"]].rows)
    order = [items[public].kind for public in work(engine, rater(engine, study))]
    assert order[:2] == ["practice", "practice"]
    assert [place for place, kind in enumerate(order) if kind == "attention"] == [5, 14]


def test_row_11_practice_gives_feedback_and_attention_is_watched(studies: Engine) -> None:
    study = launched(studies, 4, practice=1, attention=2)
    person = rater(studies, study)
    screen = next_screen(studies, person)
    assert screen.practice == (1, 1)
    wrong = save(studies, person, screen.public_id, NO)
    assert wrong.feedback is not None
    assert not wrong.feedback.right
    assert "capital" in wrong.feedback.text
    right = save(studies, person, screen.public_id, YES)
    assert right.feedback is not None
    assert right.feedback.right
    work(studies, person)  # says yes to everything: fails the second attention item
    (mine,) = progress(studies, study).raters
    assert mine.attention_failed == 1
    assert mine.done == 7


def test_row_19_leases_expire_and_are_shown(studies: Engine) -> None:
    study = launched(studies, 1, k=1, lease_minutes=10)
    slow, quick = rater(studies, study, "slow"), rater(studies, study, "quick")
    item = next_screen(studies, slow, now=0).public_id
    waiting = next_screen(studies, quick, now=60)
    assert (waiting.state, waiting.held_by_others) == ("waiting", 1)
    (lease,) = progress(studies, study, now=60).leases
    assert (lease.rater, lease.expires, lease.expired) == ("slow", 600, False)
    assert progress(studies, study, now=601).leases[0].expired
    save_draft(studies, slow, item, Answer("yes"), now=500)  # still typing: the lease goes on
    assert next_screen(studies, quick, now=700).state == "waiting"
    assert next_screen(studies, quick, now=1200).public_id == item
    late = save(studies, slow, item, YES, now=1201)
    assert not late.counted
    assert save(studies, quick, item, NO, now=1202).counted
    assert {e.what for e in audit_trail(studies, study)} >= {"lease lost", "late answer", "rated"}
    with studies.connect() as connection:
        assert connection.execute(text(PER_ITEM)).all()[0][1:] == (1, 1)


def test_an_item_that_was_never_given_is_refused(studies: Engine) -> None:
    study, other = launched(studies, 2), launched(studies, 2)
    person = rater(studies, study)
    mine = next_screen(studies, person).public_id
    for public_id in (*items_of(studies, other), *(i for i in items_of(studies, study) if i != mine), "nope"):
        with pytest.raises(BadStudy):
            save(studies, person, public_id, YES)


def test_launch_freezes_and_a_changed_item_is_noticed(studies: Engine) -> None:
    study = launched(studies)
    with pytest.raises(BadStudy, match="only a draft"):
        launch(studies, study)
    with reading(studies) as session:
        verify(session, get_study(session, study))
    with writing(studies) as session:
        session.execute(update(Item).where(Item.position == 0).values(content={"rows": [], "description": {}}))
    with reading(studies) as session, pytest.raises(ContentChanged, match="changed after its launch"):
        verify(session, get_study(session, study))


def test_same_seed_same_study_other_seed_other_order(studies: Engine) -> None:
    heads = simple_heads(30)

    def layout(seed: int) -> list[tuple[str, str]]:
        settings = StudySettings(n_heads=10)
        study = create_study(studies, name="s", heads=heads, seed=seed, settings=settings)
        items = sorted(items_of(studies, study).values(), key=lambda i: i.position)
        return [(i.kind, i.content_hash) for i in items]

    assert layout(1) == layout(1) != layout(2)


def test_stratified_by_layer(studies: Engine) -> None:
    study = launched(studies, 40, n_heads=8)
    layers = Counter(i.origin["layer"] for i in items_of(studies, study).values())
    assert set(layers.values()) == {2}
    narrow = launched(studies, 40, first_layer=1, last_layer=2)
    assert {i.origin["layer"] for i in items_of(studies, narrow).values()} == {1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": " "}, "needs a name"),
        ({"k": 0}, "between 1 and 50"),
        ({"settings": StudySettings(control_share=2)}, "share of control"),
        ({"settings": StudySettings(practice=9)}, "too many practice"),
        ({"settings": StudySettings(first_layer=50)}, "fits the filter"),
    ],
)
def test_impossible_studies_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    with pytest.raises(BadStudy, match=message):
        create_study(engine, heads=simple_heads(4), **({"name": "s"} | options))
    engine.dispose()


def test_closed_studies_take_no_answers(studies: Engine) -> None:
    study = launched(studies)
    person = rater(studies, study)
    item = next_screen(studies, person).public_id
    close_study(studies, study)
    with pytest.raises(BadStudy, match="takes no answers now: got closed"):
        save(studies, person, item, YES)
    assert next_screen(studies, person).state == "closed"
    with pytest.raises(BadStudy, match="closed"):
        invite(studies, study_id=study)


def test_instructions_come_first(studies: Engine) -> None:
    study = launched(studies)
    person = redeem(studies, invite(studies, study_id=study)[1]).who.person_id
    screen = next_screen(studies, person)
    assert screen.state == "instructions"
    assert "Is there a pattern" in screen.instructions
    confirm_instructions(studies, person)
    assert next_screen(studies, person).state == "item"


def test_row_19_live_backup_while_answers_come_in(tmp_path: Path) -> None:
    engine = open_studies(str(tmp_path / "s.sqlite"))
    study = launched(engine, 40, k=1)
    person = rater(engine, study)
    thread = threading.Thread(target=work, args=(engine, person))
    thread.start()
    size = backup(engine, tmp_path / "copy.sqlite")
    thread.join()
    assert size > 10_000
    with pytest.raises(BadStudy, match="there already"):
        backup(engine, tmp_path / "copy.sqlite")
    copy = open_studies(str(tmp_path / "copy.sqlite"))
    with reading(copy) as session:
        n = len(session.scalars(select(Rating)).all())
        assert n == len(session.scalars(select(Slot).where(Slot.state == "done")).all())
    assert 0 <= n <= 40
    copy.dispose()
    engine.dispose()


def test_heads_from_another_tool() -> None:
    good = '{"model": "m", "layer": 1, "head": 2, "rows": [{"token": " a", "targets": [" b", {"token": "c"}]}],'
    (head,) = heads_from_jsonl([good + ' "description": "Copies."}', "  "])
    assert head.rows == ({"source": " a", "targets": [" b", "c"]},)
    assert head.description["observed_pattern"] == "Copies."
    for bad in ("{", "[]", good + ' "description": 3}', '{"model": 1}'):
        with pytest.raises(BadImport, match="line 2"):
            heads_from_jsonl(["", bad])


def test_row_03_what_a_rater_gets_names_no_head(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, n_heads=5)
    person = rater(engine, study)
    screen = next_screen(engine, person)
    assert set(screen.content or {}) == {"rows", "description"}
    assert set((screen.content or {})["description"]) == {"input_strings", "observed_pattern"}
    assert set((screen.content or {})["rows"][0]) == {"source", "targets"}
    for word in ("believable-360m", "sha256", "control", "real"):
        assert word not in str(replace(screen, instructions=""))
