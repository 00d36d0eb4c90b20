"""Items show words that descriptions were tested on; those of a swapped one are read on the head of the item."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from agent.checks.new_pairs import PlannedTest, finish_test, with_tested_rows
from agent.checks.pair_scorer import PairScorer
from agent.results.reports import HeadReport
from eval.errors import BadStudy
from eval.rating.heads.described import described_heads
from eval.rating.items import Swap
from eval.rating.studies import StudySettings, create_study
from eval.rating.swapped_rows import SwappedRows
from maps_engine.engine import MapsEngine
from tests.support.believable import Believable
from tests.support.eval.named_runs import SETTINGS, named, step_pairs, stored_run, wordy_bench
from tests.support.eval.studies import items_of, simple_heads

DESIGN = StudySettings(control_share=1.0, practice=0, attention=0, stratify=False)


@pytest.fixture
def tested(studies: Engine, tmp_path: Path) -> tuple[Engine, int, MapsEngine]:
    """A run of three named heads of a tiny model, each tested on words of its own."""
    bench = wordy_bench(tmp_path)
    maps = MapsEngine(bench.checkpoint, SETTINGS)
    scorer = PairScorer(maps)

    def report(layer: int, head: int, first: int) -> HeadReport:
        one = named(bench.checkpoint, layer, head, f"operation {first}")
        plan = PlannedTest(one.description, one.mapping, step_pairs(bench.checkpoint, first=first, n=20))
        return replace(one, test=finish_test(plan, scorer))

    reports = [report(0, 1, 1), report(1, 0, 22), report(1, 2, 43)]
    return studies, stored_run(studies, bench.checkpoint, with_tested_rows(reports, scorer)), maps


def test_a_swapped_description_comes_with_its_own_words_on_the_head_of_the_item(tested) -> None:
    engine, run, maps = tested
    heads = {(h.layer, h.origin["head"]): h for h in described_heads(engine, run)}
    study = create_study(engine, name="S", heads=list(heads.values()), settings=DESIGN, reread=SwappedRows(engine, run))
    items = list(items_of(engine, study).values())
    assert Counter(item.kind for item in items) == {"real": 3, "control": 3}
    for item in items:
        place = item.origin["layer"], item.origin["head"]
        donor = tuple(item.origin["swapped_from"].values()) if item.kind == "control" else place
        ids = heads[donor].tested_ids
        rows = maps.at(maps.truest).rows_of_heads({place: ids}, targets=10)[place]
        shown = [{"source": row.token, "targets": [target.token for target in row.targets]} for row in rows]
        assert item.content["tested_rows"] == shown
        assert len(shown) == 12
        assert item.content["description"] == heads[donor].description


def test_the_web_app_starts_without_torch() -> None:
    code = "import sys, eval.web.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_without_a_reader_no_item_shows_any(tested) -> None:
    engine, run, _ = tested
    study = create_study(engine, name="S", heads=described_heads(engine, run), settings=DESIGN)
    assert all("tested_rows" not in item.content for item in items_of(engine, study).values())


def test_the_model_is_opened_only_for_swapped_descriptions_that_were_tested(filled: tuple[Engine, Believable]) -> None:
    engine, facts = filled
    reader = SwappedRows(engine, facts.run_id)  # of a model that is nowhere
    first, second, *_ = simple_heads(2)
    swaps: list[Swap] = [(first, second)]
    assert reader([]) == []
    assert reader(swaps) == [()]
    heads = described_heads(engine, facts.run_id)
    plain = replace(DESIGN, control_share=0.0)
    study = create_study(engine, name="S", heads=heads, settings=plain, reread=reader)
    assert all(
        len(item.content["tested_rows"]) == 3 for item in items_of(engine, study).values() if item.origin["operation"]
    )
    with pytest.raises(BadStudy, match="--no-tested-rows"):
        create_study(engine, name="T", heads=heads, settings=DESIGN, reread=reader)
