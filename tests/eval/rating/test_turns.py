"""Raters at work on real SQLite and PostgreSQL, below the browser: exactly k ratings, resume, undo, skip, leases.

What is held: docs/design.md, "Rating studies".
"""

from __future__ import annotations

import multiprocessing
import threading

import pytest
from sqlalchemy import Engine, event, select, text

from agent.runs.database import reading
from eval.errors import BadAnswer, BadStudy, NotFound
from eval.rating.people import invite, redeem
from eval.rating.progress import progress
from eval.rating.ratings import Answer, own_rating, own_ratings, save, save_and_next, save_draft
from eval.rating.slots import confirm_instructions, next_screen
from eval.rating.studies import audit_trail
from eval.rating.tables import Rating, RatingVersion
from tests.support.eval.race_worker import rate_everything
from tests.support.eval.studies import YES, items_of, launched, rater, work

NO = Answer("no", "no", "hm")
PER_ITEM = """SELECT item_id, count(*), count(DISTINCT rater_id) FROM ratings
              WHERE counted AND skip_reason IS NULL GROUP BY item_id"""


@pytest.mark.parametrize("n_raters", [8])
def test_racing_threads_give_each_item_exactly_k_raters(studies: Engine, n_raters: int) -> None:
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


def test_racing_processes_give_each_item_exactly_k_raters(studies: Engine) -> None:
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


def test_a_rater_resumes_with_the_draft(studies: Engine) -> None:
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


def test_edit_keeps_one_value_and_the_history(studies: Engine) -> None:
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


def test_skip_needs_a_reason_and_frees_the_place(studies: Engine) -> None:
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


def test_progress_counts_up_to_the_finish(studies: Engine) -> None:
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


def test_practice_gives_feedback_and_attention_is_watched(studies: Engine) -> None:
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


def test_leases_expire_and_are_shown(studies: Engine) -> None:
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
    for public_id in (*items_of(studies, other), "nope"):
        with pytest.raises(NotFound):
            save(studies, person, public_id, YES)
    for public_id in set(items_of(studies, study)) - {mine}:
        with pytest.raises(BadStudy, match="not given to you"):
            save(studies, person, public_id, YES)


def test_instructions_come_first(studies: Engine) -> None:
    study = launched(studies)
    person = redeem(studies, invite(studies, study_id=study)[1]).who.person_id
    screen = next_screen(studies, person)
    assert screen.state == "instructions"
    assert "Is there a pattern" in screen.instructions
    confirm_instructions(studies, person)
    assert next_screen(studies, person).state == "item"


def test_a_save_takes_few_statements_and_one_commit(studies: Engine) -> None:
    """What a save costs decides how many raters a small server can take."""
    study = launched(studies, 30, k=3)
    person = rater(studies, study)
    first = next_screen(studies, person)
    saved, second = save_and_next(studies, person, first.public_id, YES)
    assert saved.counted
    assert (second.done, second.last_item) == (1, first.public_id)
    seen: list[str] = []
    commits: list[object] = []
    event.listen(studies, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement))
    event.listen(studies, "commit", commits.append)
    save_and_next(studies, person, second.public_id, YES)
    assert len(commits) == 1
    assert len([text for text in seen if not text.startswith("BEGIN")]) <= 13
