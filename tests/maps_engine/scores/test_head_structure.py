"""Shared value heads against permutation, categories, operations per head, opponents, two models."""

from __future__ import annotations

import math

import pytest
import torch

from maps_engine.scores.head_structure import (
    findings,
    operations_per_head,
    opponents,
    shared_value_heads,
    shares_by_category,
    universality,
)
from maps_engine.scores.table import ModelScores, RelationScores


def table_of(
    scores: torch.Tensor, *, suppression: torch.Tensor | None = None, value_heads: int = 2, categories=("a", "b")
) -> ModelScores:
    """A table with one made-up operation for each row of `scores` (R, L, H)."""
    low = torch.zeros_like(scores) if suppression is None else suppression
    rows = tuple(
        RelationScores(
            f"r{i}", categories[i % len(categories)], "", 10, 50, 40, "single", score=one, suppression=low[i]
        )
        for i, one in enumerate(scores)
    )
    return ModelScores("m", "f", "embedding", scores.shape[1], scores.shape[2], value_heads, rows)


def planted(shared: bool, *, seed: int = 0, n_relations: int = 12) -> ModelScores:
    """30 layers of 6 heads on 2 value heads; each group does one operation (shared), or each head one of its own."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.zeros(n_relations, 30, 6)
    for layer in range(30):
        for head in range(6):
            if head % 3 == 0 or not shared:
                relation = int(torch.randint(n_relations, (), generator=g))
            scores[relation, layer, head] = 0.5
    return table_of(scores)


def test_shared_operations_are_found_significant():
    found = shared_value_heads(planted(True), permutations=500)
    assert found.observed == pytest.approx(1.0)
    assert found.expected < 0.6
    assert found.p == pytest.approx(1 / 501)
    assert found.n_pairs == 30 * 2 * 3


def test_p_is_uniform_when_heads_share_nothing():
    p = sorted(shared_value_heads(planted(False, seed=i), permutations=99, seed=i).p for i in range(60))
    gap = max(abs(value - (i + 0.5) / len(p)) for i, value in enumerate(p))
    assert gap < 1.63 / math.sqrt(len(p)) + 0.02  # Kolmogorov-Smirnov, alpha 0.01, and the grain of 99 permutations


def test_overlap_is_the_mean_jaccard_over_sharing_pairs():
    scores = torch.zeros(3, 1, 4)
    scores[0, 0, 0] = scores[1, 0, 0] = scores[1, 0, 1] = 0.5  # {0, 1} and {1}: 1/2
    scores[2, 0, 2] = 0.5  # {2} and {}: 0
    found = shared_value_heads(table_of(scores), permutations=10)
    assert found.observed == pytest.approx(0.25)
    assert found.n_pairs == 2


@pytest.mark.parametrize(
    ("value_heads", "level", "note"),
    [(4, 0.5, "its own value head"), (1, 0.5, "share one value head"), (2, 0.1, "no head reaches")],
)
def test_where_sharing_cannot_be_asked_a_note_says_why(value_heads, level, note):
    found = shared_value_heads(table_of(torch.full((2, 3, 4), level), value_heads=value_heads))
    assert note in found.note
    assert math.isnan(found.p)


def test_an_empty_table_has_findings_too():
    empty = ModelScores("m", "f", "embedding", 3, 4, 2, (RelationScores("r", "a", "", 10, 5, 2, "single"),))
    found = findings(empty)
    assert found.categories == ()
    assert found.n_implementing == 0
    assert math.isnan(found.mean_operations)
    assert found.sharing.note == "nothing scored"


def test_shares_count_heads_once_a_category():
    scores = torch.zeros(4, 3, 2)
    scores[0, 2, 0] = scores[2, 2, 0] = 0.15  # r0 and r2, both of category a, in one head: exactly tau counts
    scores[1, 0, 1] = 0.149
    a, b = shares_by_category(table_of(scores))
    assert (a.category, a.share, a.by_layer) == ("a", pytest.approx(1 / 6), (0, 0, 0.5))
    assert b.share == 0
    assert a.by_third == (0, 0, 0.5)


def test_thirds_cover_all_layers():
    scores = torch.zeros(1, 10, 1)
    scores[0, 7:, 0] = 1
    low, middle, high = shares_by_category(table_of(scores))[0].by_third
    assert (low, middle, high) == (0, 0, 1)
    low, middle, high = shares_by_category(table_of(scores[:, :1]))[0].by_third  # one layer has no thirds
    assert (math.isnan(low), middle, math.isnan(high)) == (True, 0, True)


def test_operations_per_head_is_a_histogram_of_all_heads():
    scores = torch.zeros(3, 2, 2)
    scores[:, 0, 0] = 1
    scores[0, 1, 1] = 1
    assert operations_per_head(table_of(scores)) == (2, 1, 0, 1)
    found = findings(table_of(scores))
    assert (found.n_implementing, found.mean_operations) == (2, 2)


def test_opponents_need_both_sides():
    scores, low = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    scores[0, 2, 1], low[0, 2, 3] = 0.8, 0.6
    scores[1, 1, 1] = 0.9
    found = opponents(table_of(scores, suppression=low))
    assert len(found) == 1
    assert (found[0].promoter, found[0].suppressor, found[0].same_layer) == ((2, 1), (2, 3), True)


def test_universality_compares_relative_depth():
    first, second = torch.zeros(2, 5, 2), torch.zeros(2, 9, 3)
    first[0, 4, 1], second[0, 4, 2] = 0.7, 0.4
    first[1, 0, 0] = 0.9
    rows = universality(table_of(first), table_of(second, value_heads=3))
    assert [row.relation for row in rows] == ["r0", "r1"]
    assert (rows[0].depths, rows[0].heads, rows[0].in_both) == ((1.0, 0.5), ((4, 1), (4, 2)), True)
    assert not rows[1].in_both
