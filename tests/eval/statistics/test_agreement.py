"""Agreement coefficients equal library values on fixtures; undefined cases are said in words."""

from __future__ import annotations

import random

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from eval.statistics.agreement import (
    TOO_FEW,
    UNDEFINED,
    Answered,
    ac1_of,
    agreement,
    alpha_of,
    as_table,
    kappa_of,
    percent_of,
    rates,
)


def made_up(n: int = 60, raters: int = 5, k: int = 3, noise: float = 0.3, seed: int = 1) -> list[Answered]:
    """k of the raters answer each item: mostly its truth, sometimes anything."""
    rng, answers = random.Random(seed), []
    for item in range(n):
        truth = rng.choice(["yes", "yes", "partly", "no"])
        for rater in rng.sample(range(raters), k):
            value = truth if rng.random() > noise else rng.choice(["yes", "partly", "no"])
            answers.append(Answered(f"i{item:03}", f"R{rater}", value))
    return answers


def test_alpha_equals_krippendorff_and_our_own_formula() -> None:
    table, _, categories = as_table(made_up())
    ours = alpha_of(table, len(categories))
    assert ours == pytest.approx(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"), abs=1e-12)
    # by hand: coincidence matrix
    counts = np.stack([(table == c).sum(0) for c in range(len(categories))], 1).astype(float)
    n_u = counts.sum(1)
    o = sum((np.outer(c, c) - np.diag(c)) / (n - 1) for c, n in zip(counts, n_u, strict=True) if n > 1)
    n_c, n = o.sum(0), o.sum()
    d_o = n - np.trace(o)
    d_e = (n * n - (n_c**2).sum()) / (n - 1)
    assert ours == pytest.approx(1 - d_o / d_e, abs=1e-12)


def test_percent_matches_the_observed_part_of_fleiss_kappa() -> None:
    table, _, categories = as_table(made_up(raters=3, k=3))
    counts, _ = aggregate_raters(table.T.astype(int))
    kappa = fleiss_kappa(counts)
    shares = counts.sum(0) / counts.sum()
    chance = float((shares**2).sum())
    assert percent_of(table, len(categories)) == pytest.approx(kappa * (1 - chance) + chance, abs=1e-12)


def test_kappa_equals_scikit_learn() -> None:
    table, _, _ = as_table(made_up(raters=2, k=2))
    assert kappa_of(table[0], table[1]) == pytest.approx(cohen_kappa_score(table[0], table[1]), abs=1e-12)


def test_ac1_equals_the_published_example_and_the_formula() -> None:
    # Two raters, 125 items: 118 yes/yes, 5 yes/no, 2 no/yes, 0 no/no (Gwet 2008, table 1).
    pairs = [("yes", "yes")] * 118 + [("yes", "no")] * 5 + [("no", "yes")] * 2
    answers = [Answered(f"{i:03}", r, v) for i, p in enumerate(pairs) for r, v in zip("AB", p, strict=True)]
    table, _, categories = as_table(answers)
    share_yes = (118 * 2 + 7) / 250
    chance = 2 * share_yes * (1 - share_yes)
    assert ac1_of(table, len(categories)) == pytest.approx((118 / 125 - chance) / (1 - chance), abs=1e-12)
    assert ac1_of(table, len(categories)) == pytest.approx(0.9408, abs=1e-4)
    assert alpha_of(table, 2) < 0


def test_agreement_without_variation_is_said_in_words() -> None:
    answers = [Answered(str(i), r, "yes") for i in range(9) for r in "AB"]
    found = agreement(answers, draws=20)
    assert found.alpha.text() == found.ac1.text() == UNDEFINED
    assert found.kappa["A", "B"].text() == UNDEFINED
    assert found.percent.value == 1.0
    assert "alpha undefined: all ratings equal" in found.text()
    lonely = agreement([Answered("1", "A", "yes"), Answered("2", "B", "no")], draws=5)
    assert lonely.alpha.text() == lonely.percent.text() == lonely.ac1.text() == TOO_FEW


def test_random_yes_sayers_do_not_look_good() -> None:
    rng = random.Random(4)
    answers = [Answered(str(i), r, "yes" if rng.random() < 0.92 else "no") for i in range(400) for r in "ABC"]
    found = agreement(answers, draws=50)
    assert found.ac1.value is not None
    assert found.ac1.value > 0.6
    assert abs(found.alpha.value or 0) < 0.1
    line = found.text()
    assert all(part in line for part in ("percent", "alpha", "AC1", "n = 1200", "yes 9"))


def test_rates_by_majority_with_ties_apart() -> None:
    said = {"a": "yes yes no", "b": "no no yes", "c": "yes no", "d": "partly partly yes"}
    answers = [Answered(item, str(i), v) for item, values in said.items() for i, v in enumerate(values.split())]
    found = rates(answers, wanted=("yes",), draws=50)
    assert (found.items.value, found.items.n, found.ties) == (pytest.approx(1 / 3), 3, 1)
    assert found.ratings.value == pytest.approx(5 / 11)
    assert rates(answers, wanted=("yes", "partly"), draws=50).items.value == pytest.approx(2 / 3)
    assert rates([], wanted=("yes",)).items.text() == "no heads"


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3), st.sampled_from(["yes", "no", "partly"])), min_size=1))
@settings(max_examples=60)
def test_any_set_of_answers_gives_numbers_or_reasons(raw: list[tuple[int, int, str]]) -> None:
    answers = list({(i, r): Answered(str(i), str(r), v) for i, r, v in raw}.values())
    found = agreement(answers, draws=10)
    assert sum(found.prevalence.values()) == pytest.approx(1)
    for estimate in (found.percent, found.alpha, found.ac1, *found.kappa.values()):
        assert estimate.text()
        assert estimate.value is None or -1.001 <= estimate.value <= 1.001
