"""Studies on real SQLite and PostgreSQL: made, launched, frozen, closed, backed up."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, select, update

from agent.runs.database import reading, writing
from eval.errors import BadImport, BadStudy, ContentChanged
from eval.rating.heads.described import described_heads, heads_from_jsonl
from eval.rating.people import invite
from eval.rating.ratings import save
from eval.rating.slots import next_screen
from eval.rating.store import backup, open_studies
from eval.rating.studies import StudySettings, close_study, create_study, get_study, launch, verify
from eval.rating.tables import Base, Item, Rating, Slot
from tests.support.believable import Believable
from tests.support.eval.studies import YES, items_of, launched, launched_from_run, rater, simple_heads, work


def test_migrations_make_exactly_the_rating_tables(studies: Engine) -> None:
    found = inspect(studies)
    for name, table in Base.metadata.tables.items():
        columns = {(c["name"], c["nullable"]) for c in found.get_columns(name)}
        assert columns == {(c.name, c.nullable) for c in table.columns}, name


def test_a_study_has_practice_attention_and_control_items(filled: tuple[Engine, Believable]) -> None:
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


def test_a_backup_is_whole_while_answers_come_in(tmp_path: Path) -> None:
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


def test_what_a_rater_gets_names_no_head(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    study = launched_from_run(engine, facts.run_id, n_heads=5)
    person = rater(engine, study)
    screen = next_screen(engine, person)
    assert set(screen.content or {}) == {"rows", "description"}
    assert set((screen.content or {})["description"]) == {"input_strings", "observed_pattern"}
    assert set((screen.content or {})["rows"][0]) == {"source", "targets"}
    for word in ("believable-360m", "sha256", "control", "real"):
        assert word not in str(replace(screen, instructions=""))
