"""Questions of the scorers: only unseen tokens, nothing to find by comparison, no foreign row that would be right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.words.spelling import core
from eval.scoring.questions.foreign_rows import Wanted, borrowed_rows, rows_from_weights
from eval.scoring.questions.items import (
    SET_SIZE,
    Material,
    detection_items,
    fuzzing_items,
    intruder_items,
    simulation_items,
    unseen_rows,
)
from eval.scoring.results import Subject
from maps_engine.engine import MapsEngine
from maps_engine.results import EngineSettings
from tests.support.eval.scored_heads import subject, subjects
from tests.support.tiny_models import tiny_model

BUILDERS = {
    "detection": detection_items,
    "fuzzing": fuzzing_items,
    "intruder": intruder_items,
    "simulation": simulation_items,
}


def material(one=None, others=None, *, n=20, seed=0):
    everyone = subjects()
    first = one or everyone[0]
    foreign = [s for s in everyone if s.mapping.layer != first.mapping.layer] if others is None else others
    return Material(first, foreign, borrowed_rows, n, seed)


def sources(items):
    return [core(item.row.token) for item in items]


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_no_source_was_seen_by_the_describer(build):
    made = material()
    seen = {core(row.token) for row in made.subject.mapping.rows}
    own = [core(item.row.token) for item in build(made) if item.kind in {"own", "permuted", "same sources"}]
    assert own
    assert seen.isdisjoint(own)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_items_depend_on_head_scorer_and_seed_alone(build):
    assert build(material()) == build(material())
    assert build(material(seed=1)) != build(material())


def test_a_source_in_another_spelling_is_seen_too():
    one = subject("copying", 0, 0)
    shown, first, *rest = one.mapping.rows[0], *one.mapping.held_out_rows
    shouted = replace(first, token=shown.token.strip().upper())
    twice = Subject(replace(one.mapping, held_out_rows=(shouted, rest[0], rest[0])), one.description)
    assert unseen_rows(twice) == [rest[0]]


def test_detection_is_half_own_rows_with_each_source_once():
    items = detection_items(material())
    kinds = [item.kind for item in items]
    assert kinds.count("own") == 10
    assert kinds.count("same sources") == 5
    assert kinds.count("other rows") == 5
    assert len(set(sources(items))) == len(items)
    assert [item.truth for item in items] == [float(kind == "own") for kind in kinds]
    assert {item.group for item in items} == {0, 1}


def test_hard_negatives_are_own_sources_without_the_heads_own_targets():
    made = material()
    own = {core(row.token): {core(t.token) for t in row.targets} for row in made.subject.mapping.held_out_rows}
    for item in detection_items(made):
        if item.kind == "same sources":
            assert own[core(item.row.token)].isdisjoint(core(t.token) for t in item.row.targets)


def test_permuted_rows_share_nothing_with_the_true_row_and_a_constant_head_has_no_questions():
    made = material()
    own = {core(row.token): {core(t.token) for t in row.targets} for row in made.subject.mapping.held_out_rows}
    items = fuzzing_items(made)
    assert {item.kind for item in items} == {"own", "permuted"}
    assert len(set(sources(items))) == len(items)
    for item in items:
        same = own[core(item.row.token)] & {core(t.token) for t in item.row.targets}
        assert bool(same) == (item.kind == "own")
    one = made.subject
    same_targets = one.mapping.held_out_rows[0].targets
    rows = tuple(replace(row, targets=same_targets) for row in one.mapping.held_out_rows)
    assert fuzzing_items(material(Subject(replace(one.mapping, held_out_rows=rows), one.description))) == []


def test_intruder_sets_hold_one_intruder_somewhere():
    items = intruder_items(material())
    groups = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    assert len(groups) == 5
    assert all(len(one) == SET_SIZE and sum(i.truth == 0 for i in one) == 1 for one in groups.values())
    assert len(set(sources(items))) == len(items)
    assert len({[i.truth for i in one].index(0) for one in groups.values()}) > 1


def test_simulation_ranks_own_targets_in_order_over_distractors():
    made = material()
    items = simulation_items(made)
    rows = {core(row.token): [t.token for t in row.targets] for row in made.subject.mapping.held_out_rows}
    by_group = {}
    for item in items:
        by_group.setdefault(item.group, []).append(item)
    assert len(by_group) == 5
    for one in by_group.values():
        own = sorted((i for i in one if i.truth > 0), key=lambda i: -i.truth)
        true = rows[core(one[0].row.token)]
        assert [i.row.targets[0].token for i in own] == true[:5]
        distractors = {core(i.row.targets[0].token) for i in one if i.truth == 0}
        assert len(distractors) == len(own)
        assert distractors.isdisjoint(map(core, true))
        assert len({i.row.token for i in one}) == 1


def test_a_head_alone_has_only_what_needs_no_other():
    made = material(others=[])
    assert all(item.truth > 0 for item in detection_items(made))
    assert fuzzing_items(made)
    assert intruder_items(made) == []
    assert simulation_items(made)


def test_few_rows_make_few_items():
    short = subject("copying", 0, 0, n=24)
    items = detection_items(material(short))
    assert sum(item.kind == "own" for item in items) == 2
    assert intruder_items(material(short)) == []


def test_rows_from_weights_are_the_engines_own(tmp_path):
    folder, _ = tiny_model("llama", tmp_path / "tiny")
    engine = MapsEngine.open(str(folder), settings=EngineSettings("embedding", top=8, targets=3), device="cpu")
    mappings = list(engine.map_heads(held_out=8))
    heads = [Subject(mapping, subject("copying", 0, 0).description) for mapping in mappings]
    wanted = [Wanted(row, heads[place % 3], 0) for place, row in enumerate(heads[4].mapping.rows)]
    made = rows_from_weights(engine)(wanted)
    assert [row.token_id for row in made] == [one.row.token_id for one in wanted]
    known = {(s.key, row.token_id): row.targets for s in heads for row in (*s.mapping.rows, *s.mapping.held_out_rows)}
    compared = 0
    for one, row in zip(wanted, made, strict=True):
        true = known.get((one.other.key, row.token_id))
        if true is not None:
            assert [t.token_id for t in row.targets] == [t.token_id for t in true]
            compared += 1
    assert compared
