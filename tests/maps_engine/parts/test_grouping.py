"""Groups of vectors: planted ones are found, whatever the order, and what is in none is left out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from maps_engine.parts import grouping
from maps_engine.parts.grouping import grouped


def planted(*, sizes: tuple[int, ...], width: int = 24, spread: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows around as many orthogonal directions as there are `sizes`, and the group of each."""
    g = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(width, len(sizes), generator=g)).Q.T
    of_row = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    noise = spread * torch.randn(len(of_row), width, generator=g) / width**0.5
    lengths = 1 + torch.rand(len(of_row), 1, generator=g)
    return lengths * (directions[of_row] + noise), of_row


def partition(of_row: Tensor) -> set[frozenset[int]]:
    return {frozenset((of_row == group).nonzero().flatten().tolist()) for group in of_row.unique().tolist()}


@pytest.mark.parametrize("sizes", [(40,), (40, 30), (60, 25, 20, 17)])
def test_planted_groups_are_found(sizes):
    rows, of_row = planted(sizes=sizes)
    found = grouped(rows)
    assert partition(found.of_row) == partition(of_row)
    assert torch.allclose(found.directions.norm(dim=-1), torch.ones(len(sizes)), atol=1e-5)


def test_the_order_of_rows_does_not_matter():
    rows, _ = planted(sizes=(50, 30, 20))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))
    straight, mixed = grouped(rows), grouped(rows[order])
    assert partition(straight.of_row[order]) == partition(mixed.of_row)


def test_other_rows_are_assigned_to_the_direction_that_they_are_near_to():
    rows, of_row = planted(sizes=(40, 30))
    found = grouped(rows)
    others, of_other = planted(sizes=(9, 7), seed=0)
    names = {int(of_row[i]): int(found.of_row[i]) for i in (0, 69)}
    assert found.assigned(others).tolist() == [names[group] for group in of_other.tolist()]
    away = torch.linalg.qr(torch.cat([found.directions, torch.randn(3, rows.shape[1])]).T).Q.T[2:]
    assert found.assigned(away).tolist() == [-1] * 3


def test_rows_without_a_group_and_small_groups_are_left_out():
    rows, of_row = planted(sizes=(40, grouping.FEWEST - 1))
    found = grouped(torch.cat([rows, torch.zeros(5, rows.shape[1])]))
    assert partition(found.of_row) == {
        frozenset(range(40)), frozenset(range(40, len(rows) + 5)),
    }  # fmt: skip
    assert found.of_row[len(of_row) :].tolist() == [-1] * 5


def test_directions_that_nearly_coincide_make_one_group():
    g = torch.Generator().manual_seed(1)
    one, across = torch.linalg.qr(torch.randn(24, 2, generator=g)).Q.T
    turned = normalize(one + 0.5 * across, dim=-1)  # cosine 0.89
    rows = torch.cat([one.repeat(40, 1), turned.repeat(40, 1)]) + 0.02 * torch.randn(80, 24, generator=g)
    assert partition(grouped(rows).of_row) == {frozenset(range(80))}


@pytest.mark.parametrize("rows", [torch.zeros(50, 8), torch.zeros(0, 8), torch.ones(3, 8)])
def test_nothing_to_group_gives_no_group(rows):
    found = grouped(rows)
    assert len(found.directions) == 0
    assert found.of_row.tolist() == [-1] * len(rows)
    assert found.assigned(torch.ones(2, 8)).tolist() == [-1, -1]
