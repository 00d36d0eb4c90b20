"""The block search finds what a full sort finds."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maps_engine.ov.top_entries import RunningTop, top_entries


@settings(max_examples=60)
@given(
    n=st.integers(1, 4),
    m=st.integers(1, 3000),
    k=st.integers(1, 12),
    levels=st.sampled_from([3, 50, 10**6]),
    seed=st.integers(0, 2**16),
)
def test_values_equal_topk_even_with_many_equal_entries(n, m, k, levels, seed):
    g = torch.Generator().manual_seed(seed)
    rows = torch.randint(levels, (n, m), generator=g).float() - levels / 2
    values, positions = top_entries(rows, k)
    expected = rows.topk(min(k, m), dim=-1).values
    assert torch.equal(values, expected)
    assert torch.equal(rows.gather(1, positions), values)
    assert all(len(set(p.tolist())) == len(p) for p in positions)


@settings(max_examples=40)
@given(m=st.integers(5, 2000), width=st.integers(1, 700), k=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_running_list_over_chunks_equals_one_sort(m, width, k, seed):
    rows = torch.randn(3, m, generator=torch.Generator().manual_seed(seed))
    running = RunningTop(k)
    for start in range(0, m, width):
        ids = torch.arange(start, min(start + width, m))
        running.update(rows[:, start : start + width], ids)
    values, ids = running.result()
    expected = rows.topk(min(k, m), dim=-1)
    assert torch.equal(values, expected.values)
    assert torch.equal(ids, expected.indices)


def test_result_orders_equal_values_by_lower_id():
    running = RunningTop(3)
    running.update(torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([9, 7, 5]))
    running.update(torch.tensor([[2.0]]), torch.tensor([1]))
    values, ids = running.result()
    assert values.tolist() == [[2.0, 2.0, 2.0]]
    assert ids.tolist() == [[1, 5, 7]]
