"""The heads that are scored: a seeded choice of them, and what of a file or an old run is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval.errors import BadImport
from eval.scoring.collection import Collection, chosen, of_file
from eval.scoring.job_builder import JobBuilder
from eval.scoring.request import ScoreRequest
from maps_engine.errors import UserMistake
from tests.support.eval.scored_heads import subjects


def test_choice_of_heads_is_seeded_and_in_order():
    described = [one for one in subjects() if one.described]
    few = chosen(described, layers=range(9), heads=range(9), limit=5, seed=1)
    assert few == sorted(few) == chosen(described, layers=range(9), heads=range(9), limit=5, seed=1)
    assert few != chosen(described, layers=range(9), heads=range(9), limit=5, seed=2)
    assert chosen(described, layers=[1], heads=[0, 2], limit=None, seed=0) == [(1, 0), (1, 2)]


@pytest.mark.parametrize("line", ["{}", "no json", "[]", '{"provenance": {}, "model": "x"}'])
def test_a_broken_export_names_its_line(line, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(BadImport, match=r"line 2 of x\.jsonl is no described head"):
        of_file(path)


@pytest.mark.parametrize("source", ["first-block", "of a later version"])
def test_rows_that_cannot_be_read_again_are_refused_before_a_model_is_opened(source):
    first, *others = subjects()
    settings = replace(first.mapping.settings, source=source)
    old = replace(first, mapping=replace(first.mapping, settings=settings))
    builder = JobBuilder(ScoreRequest(model="no such model"))
    builder.collection = Collection((*others, old), "an old run")
    with pytest.raises(UserMistake, match=f"no longer there: got {source}; expected residual.*--no-weights"):
        _ = builder.engine
