"""Measures of scoring: perfect, useless and in between; what the table of scorers says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from agent.output.console import console
from eval.scoring.measures import (
    area_under_curve,
    balanced_accuracy,
    complete_groups,
    concordance,
    intruders_found,
)
from eval.scoring.output.summary import summarise
from eval.scoring.output.tables import show_scores
from eval.scoring.results import HeadScore, Judged, Outcome, ScorerSummary
from eval.statistics.intervals import Estimate

RATINGS = st.floats(0, 1, width=16)


def sides(own, foreign):
    return [Judged(0, "own", 1.0, r) for r in own] + [Judged(0, "permuted", 0.0, r) for r in foreign]


@given(st.lists(RATINGS, min_size=1, max_size=20), st.lists(RATINGS, min_size=1, max_size=20))
def test_area_is_the_usual_one_and_antisymmetric(own, foreign):
    found = area_under_curve(sides(own, foreign))
    truth = [1] * len(own) + [0] * len(foreign)
    assert found == pytest.approx(roc_auc_score(truth, own + foreign))
    assert found + area_under_curve(sides(foreign, own)) == pytest.approx(1.0)
    assert 0 <= balanced_accuracy(sides(own, foreign)) <= 1


def test_area_and_accuracy_at_their_ends():
    assert area_under_curve(sides([0.9, 0.8], [0.1, 0.2])) == 1.0
    assert area_under_curve(sides([0.5], [0.5, 0.5])) == 0.5
    assert balanced_accuracy(sides([0.5, 0.4], [0.49])) == 0.75
    for measure in (area_under_curve, balanced_accuracy):
        assert measure(sides([], [0.3])) is None
        assert measure(sides([0.3, None], [None])) is None


def one_set(group, own, intruder):
    return [Judged(group, "own", 1.0, r) for r in own] + [Judged(group, "intruder", 0.0, intruder)]


def test_intruders_share_credit_in_ties_and_unanswered_sets_do_not_count():
    assert intruders_found(one_set(0, [0.9, 0.8, 0.7, 0.6], 0.1)) == 1.0
    assert intruders_found(one_set(0, [0.9, 0.8, 0.7, 0.0], 0.1)) == 0.0
    assert intruders_found(one_set(0, [0.0] * 4, 0.0)) == pytest.approx(0.2)
    both = one_set(0, [0.9] * 4, 0.1) + one_set(1, [None, 0.5, 0.5, 0.5], 0.9)
    assert intruders_found(both) == 1.0
    assert len(complete_groups(both)) == 1
    assert intruders_found([Judged(0, "own", 1.0, None)]) is None


def source(group, ratings, truth=(5, 4, 3, 2, 1, 0, 0, 0)):
    return [Judged(group, "own" if t else "distractor", float(t), r) for t, r in zip(truth, ratings, strict=True)]


def test_concordance_is_one_for_the_heads_own_order_half_for_none_and_zero_reversed():
    assert concordance(source(0, (0.9, 0.8, 0.7, 0.6, 0.5, 0.1, 0.2, 0.3))) == 1.0
    assert concordance(source(0, (0.5,) * 8)) == 0.5
    assert concordance(source(0, (0, 0.1, 0.2, 0.3, 0.4, 0.9, 0.9, 0.9))) == 0.0
    assert concordance(source(0, (0.5, 0.5), truth=(0, 0))) is None


@given(st.lists(RATINGS, min_size=8, max_size=8))
def test_concordance_is_kendalls_share_of_pairs(ratings):
    pairs = [(a, b) for a in source(0, ratings) for b in source(0, ratings) if a.truth > b.truth]
    right = sum(1.0 if a.rating > b.rating else 0.5 if a.rating == b.rating else 0.0 for a, b in pairs)
    assert concordance(source(0, ratings)) == pytest.approx(right / len(pairs))


def scores(own, swapped, *, same=False, scorer="detection"):
    return [
        HeadScore(0, i, scorer, "copying", Outcome(a, n=20), Outcome(b, n=20), (0, i + 1), same)
        for i, (a, b) in enumerate(zip(own, swapped, strict=True))
    ]


def test_the_verdict_is_a_paired_test():
    own = [0.9, 0.8, 0.7, 0.95, 0.6, 0.75]
    told = summarise(scores(own, [a - 0.2 for a in own]), judge="lexical")[0]
    assert (told.verdict, told.n_heads, told.n_items, told.chance) == ("yes", 6, 120, 0.5)
    assert told.gap.value == pytest.approx(0.2)
    same = summarise(scores(own, own[::-1]), judge="lexical")[0]
    assert same.verdict == "no"
    assert "includes 0" in same.why
    worse = summarise(scores([0.1] * 6, [0.5, 0.6, 0.5, 0.6, 0.5, 0.6]), judge="lexical")[0]
    assert worse.verdict == "no"
    assert "higher than a head's own" in worse.why


def test_heads_without_a_control_are_left_out_of_the_gap():
    own = [0.9] * 8
    mixed = scores(own[:4], [0.1] * 4) + scores(own[4:], [0.1] * 4, same=True)
    found = summarise(mixed, judge="lexical")[0]
    assert (found.n_heads, found.gap.n, found.verdict) == (8, 4, "too few heads")
    unscored = [HeadScore(0, 9, "detection", "x", Outcome(None, why="none"), None)]
    assert summarise(unscored, judge="lexical")[0].score.value is None


def test_the_table_says_what_its_means_are_over(capsys):
    show_scores(console(), "title", [summary_with(Estimate(0.2, 0.1, 0.3, 7), n_heads=12)])
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if " 240 " in line)
    assert line.split()[:5] == ["detection", "lexical", "12", "240", "0.50"]
    assert " 7 " in line.partition("]")[2]
    assert "swapped and gap: means over the heads with a control only" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("low", "shown"),
    [(0.0, "[0.00, 0.47]"), (0.0031, "[0.003, 0.470]"), (-0.0004, "[-0.0004, 0.4700]"), (0.1, "[0.10, 0.47]"),
     (1e-17, "[0.00, 0.47]")],
)  # fmt: skip
def test_an_end_that_decides_the_verdict_is_told_from_0(capsys, low, shown):
    show_scores(console(), "title", [summary_with(Estimate(0.2, low, 0.47, 7))])
    assert shown in capsys.readouterr().out


def summary_with(gap, n_heads=9):
    score = Estimate(0.7, 0.6, 0.8, n_heads)
    return ScorerSummary("detection", "lexical", 0.5, n_heads, 20 * n_heads, 0, score, score, gap, "yes", "why")


@given(st.lists(RATINGS, min_size=5, max_size=30), st.integers(0, 5))
def test_no_scorer_tells_random_numbers_apart_for_sure(values, seed):
    shuffled = list(values)
    random.Random(seed).shuffle(shuffled)
    found = summarise(scores(values, shuffled), judge="lexical", seed=seed)[0]
    assert found.verdict == "no"  # a permutation of the same numbers: the gap is 0
    assert found.gap.low - 1e-9 <= 0 <= found.gap.high + 1e-9


def test_scores_survive_json():
    one = scores([0.5], [0.4])[0]
    assert HeadScore.from_json(one.to_json()) == one
    import json

    assert HeadScore.from_json(json.loads(json.dumps(one.to_json()))) == one
    with pytest.raises((KeyError, TypeError)):
        HeadScore.from_json({"layer": 1})
