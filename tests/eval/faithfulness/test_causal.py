"""The causal experiment: head sets, limits, controls, removal, curves, resume; and our own prompts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import MixedResults
from eval.faithfulness import causal as causal_experiment
from eval.faithfulness.ablation import (
    Task,
    ask,
    controls_of,
    heads_of,
    mean_states,
    measure,
    random_orders,
    removal,
    removal_limit,
    steps,
)
from eval.faithfulness.causal import causal
from eval.faithfulness.paired_removal import OtherChoice, against_row, differences, other_choice
from eval.faithfulness.report.reading import read_causal
from eval.faithfulness.report.text import causal_table
from eval.faithfulness.running.few_shot import FewShot, Question, few_shots, prompts_for, questions
from eval.faithfulness.running.running_model import Ablation
from eval.faithfulness.static_scores import StaticSetting
from eval.results_folder import ResultsFolder
from eval.statistics.intervals import wilson
from maps_engine.errors import UserMistake
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.results import EngineSettings
from tests.support.eval.faithfulness_models import relation_of, tiny_bench, tiny_relation, words


@pytest.fixture
def bench(tmp_path):
    return tiny_bench(tmp_path)


def shot_for(relation) -> FewShot:
    (s, (t, *_)), *_ = relation.pairs
    return FewShot(relation.name, "<X> the<Y>;", ((s, t),))


def learnt(bench, name: str = "learnt"):
    """An operation that the tiny model is right about: its own answers to the prompt."""
    known = words(bench.checkpoint)
    shot = FewShot(name, "<X> the<Y>;", (("zz", "zz"),))
    vocabulary = bench.checkpoint.vocabulary
    pairs = []
    for word in known:
        prompt = bench.maker.make(shot.template, (vocabulary.single_id(word),))
        said = int(bench.model.predictions(torch.tensor([prompt.ids]), [Ablation()])[0, 0])
        spelled = vocabulary.single_id(vocabulary.text(said) or "?", leading_space=False) == said
        pairs.append((word, (vocabulary.text(said) if spelled else "w",)))
    return replace(relation_of(name, tuple(pairs)), target_space=False), shot


def task(name: str, heads, accuracy: float, n: int = 20) -> Task:
    correct = np.arange(n) < accuracy * n
    return Task(name, (), tuple(heads), correct, torch.zeros(1))


# head sets


@pytest.mark.parametrize(
    ("heads", "limit"),
    [(270, 30), (299, 30), (300, 50), (999, 100), (1000, 150), (1499, 150), (1500, 250), (5120, 250)],
)
def test_the_papers_limits(heads, limit):
    assert removal_limit(heads) == limit


def test_heads_at_tau_strongest_first():
    scores = torch.tensor([[0.1, 0.15, 0.9], [0.3, 0.149, 0.3]])
    assert heads_of(scores) == ((0, 2), (1, 0), (1, 2), (0, 1))
    assert heads_of(torch.zeros(2, 2)) == ()


@given(st.integers(0, 300))
def test_curves_grow_and_end_at_all_heads(n):
    found = steps(n)
    assert found == sorted(set(found))
    assert (found[-1] == n and found[0] == 1) if n else not found


def test_random_draws_are_other_heads_and_nested():
    others = [(0, i) for i in range(12)]
    orders = random_orders(others)
    assert len(orders) == 5
    assert all(sorted(order) == others for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert random_orders(others) == orders
    assert random_orders(others, seed=1) != orders


def test_controls_follow_the_papers_rules():
    mine = task("mine", [(0, i) for i in range(10)], 0.6)
    tasks = {
        "mine": mine,
        "fits": task("fits", [(1, 0), (0, 0)], 0.7),
        "overlaps": task("overlaps", [(0, 0), (0, 1)], 0.6),
        "easier": task("easier", [(1, 1)], 0.85),
        "fits-best": task("fits-best", [(1, 2)], 0.6),
        **{f"more-{i}": task(f"more-{i}", [(2, i)], 0.75) for i in range(5)},
    }
    found = [one.name for one in controls_of(mine, tasks, 10)]
    assert found == ["fits-best", "fits", "more-0", "more-1", "more-2"]
    assert "overlaps" in [one.name for one in controls_of(mine, {"mine": mine, "overlaps": tasks["overlaps"]}, 0)]


def test_removal_sorts_heads_into_layers():
    means = torch.ones(2, 4, 3)
    assert removal([(1, 2), (0, 3), (1, 0)], "zero", means) == Ablation({1: [2, 0], 0: [3]})
    assert removal([(0, 0)], "mean", means).replacement is means


# runs


def test_answers_are_counted_one_by_one(bench):
    known = [bench.checkpoint.vocabulary.single_id(w) for w in words(bench.checkpoint)]
    prompts = [bench.maker.make(t, (i,)) for i in known[:5] for t in ("the<X>", "one two<X> the")]
    every = [int(bench.model.predictions(torch.tensor([p.ids]), [Ablation()])[0, 0]) for p in prompts]
    asked = [
        Question(p, (said,) if i % 2 else (said + 1, said + 2))
        for i, (p, said) in enumerate(zip(prompts, every, strict=True))
    ]
    right = ask(bench.model, asked, [Ablation(), Ablation()], batch=3)
    assert right.tolist() == [[bool(i % 2) for i in range(10)]] * 2


def test_means_are_over_the_prompts(bench):
    asked = [Question(bench.maker.make(t, (i,)), ()) for i in (5, 9, 20) for t in ("the<X>", "one<X> the")]
    alone = [bench.model.head_states(torch.tensor([q.prompt.ids]), 0).mixed[:, 0] for q in asked]
    torch.testing.assert_close(mean_states(bench.model, asked, batch=2), torch.stack(alone).mean(0))
    with pytest.raises(ValueError, match="no prompts"):
        mean_states(bench.model, [], batch=2)


def test_a_curve_point_is_what_removing_those_heads_gives(bench):
    relation, shot = learnt(bench)
    asked = tuple(questions(shot, relation, bench.checkpoint.vocabulary, bench.maker, max_pairs=None))
    means = mean_states(bench.model, asked, batch=8)
    heads = ((1, 3), (0, 0), (1, 1))
    correct = ask(bench.model, asked, [Ablation()], batch=8)[0]
    one = Task("learnt", asked, heads, correct, means)
    for mode in ("zero", "mean"):
        for point in measure(bench.model, one, [1, 3], mode, batch=8):
            direct = ask(bench.model, asked, [removal(heads[: point.n], mode, means)], batch=8)[0]
            assert point.relation.tolist() == direct.tolist()
            others = [(i, j) for i in range(2) for j in range(4) if (i, j) not in heads]
            draws = [removal(order[: point.n], mode, means) for order in random_orders(others)]
            assert point.random.tolist() == ask(bench.model, asked, draws, batch=8).tolist()


@pytest.fixture
def setup(bench, monkeypatch):
    """Operations with prompts that the tiny model can answer; chance scores make heads reach tau."""
    monkeypatch.setattr(causal_experiment, "PairLimits", lambda: causal_pairs())
    relation, shot = learnt(bench)
    other, other_shot = learnt(bench, "other")
    hopeless = tiny_relation(bench.checkpoint, "hopeless", step=4)
    few = relation_of("few", relation.pairs[:3])
    shots = [shot, other_shot, shot_for(hopeless), FewShot("few", shot.form, shot.shots)]
    return bench, [relation, other, hopeless, few], shots


def causal_pairs():
    from eval.faithfulness.correlation import PairLimits

    return PairLimits(min_pairs=5)


def test_table_curve_and_reasons(setup):
    bench, relations, shots = setup
    table = causal(bench, relations, shots, max_pairs=12)
    names = {row["name"] for row in table.rows}
    assert names <= {"learnt", "other"}
    assert names, "nothing was ablated"
    assert any(one["name"] == "few" and "too few pairs" in one["why"] for one in table.skipped)
    for row in table.rows:
        assert row["base"]["value"] >= 0.1
        assert row["prompts"] == 12
        assert [point["n"] for point in row["curve"]] == [0, *steps(row["removed"])]
        assert row["curve"][-1]["relation"] == row["zero"]["relation"]
        base = wilson(round(row["base"]["value"] * 12), 12)
        assert row["base"]["low"] == pytest.approx(base.low, abs=1e-4)
        for mode in ("zero", "mean"):
            for what in ("relation", "random"):
                one = row[mode][what]
                assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
    assert json.dumps(table.to_json())


def test_a_lower_tau_gives_longer_curves(setup, tmp_path):
    bench, relations, shots = setup
    usual = {row["name"]: row["heads"] for row in causal(bench, relations, shots, max_pairs=12).rows}
    bench.folder = ResultsFolder(tmp_path / "low")
    low = causal(bench, relations, shots, max_pairs=12, tau=0.05)
    assert low.to_json()["tau"] == 0.05
    assert all(row["heads"] >= usual.get(row["name"], 0) for row in low.rows)
    assert sum(row["heads"] for row in low.rows) > sum(usual.values())


def test_a_second_run_reads_the_folder(setup, tmp_path):
    bench, relations, shots = setup
    first = causal(bench, relations, shots, max_pairs=12)
    bench.costs.clear()
    assert causal(bench, relations, shots, max_pairs=12) == first
    assert "ablated runs" not in bench.costs


def test_other_prompts_in_the_same_folder_are_refused(setup):
    bench, relations, shots = setup
    causal(bench, relations, shots, max_pairs=12)
    with pytest.raises(MixedResults, match="questions"):
        causal(bench, relations, shots, max_pairs=11)


# our own prompts


def test_every_prompt_is_of_a_known_operation_and_true_to_it():
    names = list(few_shots())
    assert len(names) == len(set(names)) >= 13
    known = {one.name: one for one in load_relations(names)}
    for name, shot in few_shots().items():
        assert shot.template.count("<X>") == 1
        assert "<Y>" not in shot.template
        assert not shot.template.endswith(" ")
        assert len(shot.shots) >= 3
        listed = dict(known[name].pairs)
        for s, t in shot.shots:
            assert s not in listed or t in listed[s], f"{name}: {s} -> {t} contradicts the catalogue"


def test_examples_are_never_asked(bench):
    relation = tiny_relation(bench.checkpoint)
    shot = shot_for(relation)
    asked = questions(shot, relation, bench.checkpoint.vocabulary, bench.maker, max_pairs=None)
    shown = {bench.checkpoint.vocabulary.single_id(word) for pair in shot.shots for word in pair}
    assert len(asked) == encode_relation(relation, bench.checkpoint.vocabulary).n_used - 2
    assert not shown & {q.prompt.ids[q.prompt.source] for q in asked}
    assert len(questions(shot, relation, bench.checkpoint.vocabulary, bench.maker, max_pairs=4)) == 4


def test_template_holds_the_examples():
    shot = FewShot("r", "A<X> is a<Y>.", (("cat", "pet"), ("oak", "tree")))
    assert shot.template == "A cat is a pet.\nA oak is a tree.\nA<X> is a"


def test_an_operation_without_prompt_is_refused():
    assert prompts_for(["copying"])[0].relation == "copying"
    assert len(prompts_for(None)) == len(few_shots())
    with pytest.raises(UserMistake, match="word-to-rhyme"):
        prompts_for(["copying", "word-to-rhyme"])


# two choices of heads


def test_the_other_choice_is_as_many_heads_that_score():
    scores = torch.tensor([[0.0, 0.02, 0.9], [0.3, 0.0, 0.0]])
    assert other_choice("paper", scores, 2).heads == ((0, 2), (1, 0))
    assert other_choice("paper", scores, 6).heads == ((0, 2), (1, 0), (0, 1))


def test_against_is_the_accuracy_under_either_choice(bench):
    relation, shot = learnt(bench)
    asked = tuple(questions(shot, relation, bench.checkpoint.vocabulary, bench.maker, max_pairs=None))
    means = mean_states(bench.model, asked, batch=8)
    one = Task("learnt", asked, ((1, 3), (0, 0), (1, 1)), ask(bench.model, asked, [Ablation()], batch=8)[0], means)
    other = OtherChoice("paper", ((0, 0), (0, 2), (1, 1)))
    row = against_row(bench.model, one, other, 3, batch=8)
    assert [(point["n"], point["shared"]) for point in row["curve"]] == [(1, 0), (2, 1), (3, 2)]
    for point in row["curve"]:
        for side, heads in (("own", one.heads), ("other", other.heads)):
            direct = ask(bench.model, asked, [removal(heads[: point["n"]], "zero", means)], batch=8)[0].mean()
            assert point[side] == pytest.approx(direct, abs=1e-4)
    assert against_row(bench.model, one, OtherChoice("paper", ()), 3, batch=8)["curve"] == []


def test_differences_are_paired_by_operation():
    def row(name, *points):
        curve = [{"n": n, "shared": 0, "own": own, "other": other} for n, own, other in points]
        return {"name": name, "against": {"setting": "paper", "curve": curve}}

    rows = [row("a", (1, 0.5, 0.9), (2, 0.1, 0.8), (3, 0.0, 0.8)), row("b", (1, 0.6, 0.8)), row("none")]
    one, two, all_heads = differences(rows)
    assert (one["n"], one["operations"], one["value"]) == (1, 2, pytest.approx(0.3))
    assert (two["n"], two["operations"], two["value"]) == (2, 1, pytest.approx(0.7))
    assert (all_heads["n"], all_heads["operations"], all_heads["value"]) == (None, 2, pytest.approx(0.5))
    assert differences([row("none")]) == []


def test_the_table_says_what_it_was_compared_with(setup):
    bench, relations, shots = setup
    table = causal(bench, relations, shots, max_pairs=12, against=StaticSetting("other", EngineSettings("embedding")))
    found = table.to_json()["against"]
    assert found["setting"] == "other"
    assert found["differences"][-1]["n"] is None
    text, sentences = causal_table(table.to_json()), read_causal(table.to_json())
    assert "beyond other's" in text
    assert any("as many chosen by other" in one for one in sentences)
    with pytest.raises(MixedResults, match="against"):
        causal(bench, relations, shots, max_pairs=12)
