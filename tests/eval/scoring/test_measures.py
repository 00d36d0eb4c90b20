"""Measures and intervals of scoring: perfect, useless and in between; coverage on simulated heads."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from agent.output.console import console
from eval.rating.report.agreement import Estimate
from eval.scoring.measures import (
    area_under_curve,
    balanced_accuracy,
    complete_groups,
    concordance,
    concordances,
    intruders_found,
)
from eval.scoring.output.summary import summarise
from eval.scoring.output.tables import show_scores
from eval.scoring.results import HeadScore, Judged, Outcome, ScorerSummary
from eval.scoring.statistics import MIN_HEADS, exact_share, interval_of_area, interval_of_groups, mean_over_heads

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


@given(st.integers(1, 40), st.data())
def test_exact_share_is_clopper_pearson(n, data):
    k = data.draw(st.integers(0, n))
    assert exact_share(k, n) == pytest.approx(proportion_confint(k, n, method="beta"), abs=1e-9)
    low, high = exact_share(k * 0.999, n)
    assert 0 <= low <= k / n <= high + 1e-3


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda rng, n: rng.normal(0.1, 0.2, n), id="normal"),
        pytest.param(lambda rng, n: rng.beta(2, 5, n), id="skewed"),
        pytest.param(lambda rng, n: rng.integers(-2, 4, n) / 4, id="coarse"),
    ],
)
def test_intervals_over_heads_cover_the_mean(draw):
    """250 collections of 12 heads: the 95 % interval misses the true mean in at most one in ten."""
    rng = np.random.default_rng(1)
    mean = float(draw(np.random.default_rng(2), 400_000).mean())
    hits = 0
    for seed in range(250):
        found = mean_over_heads(list(draw(rng, 12)), draws=400, seed=seed)
        hits += found.low <= mean <= found.high
    assert hits / 250 >= stats.binom.ppf(0.001, 250, 0.93) / 250


def test_intervals_are_seeded_and_absent_for_few_heads():
    values = [0.2, 0.4, 0.9, 0.5, 0.1, 0.7]
    assert mean_over_heads(values, seed=3) == mean_over_heads(values, seed=3)
    assert mean_over_heads(values, seed=3) != mean_over_heads(values, seed=4)
    few = mean_over_heads([0.5] * (MIN_HEADS - 1))
    assert (few.value, few.low, few.why) == (0.5, None, "fewer than 5 heads")
    assert mean_over_heads([]).value is None


def test_interval_of_one_head_holds_its_score_and_shrinks_with_items():
    chance = random.Random(0)
    widths = []
    for n in (10, 200):
        judged = sides([chance.gauss(0.6, 0.2) for _ in range(n)], [chance.gauss(0.4, 0.2) for _ in range(n)])
        low, high = interval_of_area(judged)
        assert low <= area_under_curve(judged) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    grouped = [one for g in range(6) for one in source(g, [chance.random() for _ in range(8)])]
    low, high = interval_of_groups(concordances(grouped))
    assert low <= concordance(grouped) <= high
    assert interval_of_area([]) is None
    assert interval_of_groups([]) is None


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
