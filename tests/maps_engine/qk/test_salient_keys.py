"""Queries with their keys against the plain table of scores."""

from __future__ import annotations

import pytest
import torch

from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import Vocabulary
from maps_engine.qk.content import Content
from maps_engine.qk.salient_keys import KEYS, QUERIES, popular_keys, salient_queries
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Vocabulary:
    return open_checkpoint(str(tiny_model("llama", tmp_path_factory.mktemp("model") / "tiny")[0])).vocabulary


def test_lists_are_those_of_the_plain_table(vocabulary: Vocabulary) -> None:
    chance, ids = torch.Generator().manual_seed(2), torch.arange(5, 45)
    read = Content(*(torch.randn(2, len(ids), 4, generator=chance) for _ in range(2)))
    scores = read.queries @ read.keys.transpose(1, 2)
    for head in range(2):
        own = scores[head] - scores[head].mean(dim=0) - scores[head].mean(dim=1, keepdim=True) + scores[head].mean()
        spread = own.std(dim=1, correction=0)
        rows = salient_queries(read, head, ids, vocabulary)
        assert [row.token_id for row in rows] == ids[spread.topk(QUERIES).indices].tolist()
        assert [row.salience for row in rows] == pytest.approx(spread.topk(QUERIES).values.tolist(), rel=1e-4)
        for row in rows:
            best = own[int((ids == row.token_id).nonzero())].topk(KEYS)
            assert [one.token_id for one in row.targets] == ids[best.indices].tolist()
            assert [one.score for one in row.targets] == pytest.approx(best.values.tolist(), abs=1e-4)
        popular, avoided = popular_keys(read, head, ids, vocabulary)
        of_keys = scores[head].mean(dim=0) - scores[head].mean()
        assert [one.token_id for one in popular] == ids[of_keys.topk(KEYS).indices].tolist()
        assert [one.token_id for one in avoided] == ids[(-of_keys).topk(KEYS).indices].tolist()
        assert popular[0].score > 0 > avoided[0].score


def test_fewer_words_than_are_listed(vocabulary: Vocabulary) -> None:
    read, ids = Content(torch.ones(1, 3, 4), torch.ones(1, 3, 4)), torch.tensor([7, 8, 9])
    assert len(salient_queries(read, 0, ids, vocabulary)) == 3
    assert [len(one) for one in popular_keys(read, 0, ids, vocabulary)] == [3, 3]
