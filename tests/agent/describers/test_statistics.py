"""Counts against nulls: the arithmetic of surprise."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from agent.describers.statistics import count, crossed_rate, log_likelihood_ratio, strength
from tests.support.agent.mappings import row


def same(a, b):
    return any(t.token == a.token for t in b.targets)


def test_ratio_equals_the_likelihoods_own():
    for k, n, p in ((5, 30, 0.05), (30, 30, 0.2), (1, 3, 0.1)):
        direct = stats.binom.logpmf(k, n, k / n) - stats.binom.logpmf(k, n, p)
        assert log_likelihood_ratio(k, n, p) == pytest.approx(direct)


@given(st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 0.999))
def test_ratio_is_never_negative_and_zero_below_the_rate(k, n, p):
    k = min(k, n)
    value = log_likelihood_ratio(k, n, p)
    assert value >= 0
    assert math.isfinite(value)
    if n and k / n <= p:
        assert value == 0


def test_more_hits_are_more_surprising():
    values = [log_likelihood_ratio(k, 30, 0.05) for k in range(3, 31)]
    assert values == sorted(values)


def test_crossed_rate_counts_all_other_rows():
    rows = [row("a", ["a"]), row("b", ["a"]), row("c", ["x"])]
    assert count(rows, same) == 1
    assert crossed_rate(rows, same) == pytest.approx((1 + 0.5) / (6 + 1))


def test_hub_tokens_explain_themselves():
    rows = [row("the", ["the", "of"]) for _ in range(10)]
    k, rate, gain = strength(rows, same, at_least=3)
    assert (k, gain) == (10, pytest.approx(0, abs=0.1))
    assert rate > 0.99


def test_few_hits_are_not_crossed():
    assert strength([row("a", ["a"]), row("b", [])], same, at_least=3) == (1, 1.0, 0.0)


def test_one_row_has_no_crossing():
    assert crossed_rate([row("a", ["a"])], same) == 0.5
