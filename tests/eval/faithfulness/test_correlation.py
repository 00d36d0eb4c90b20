"""Correlation, multi-token and settings on tiny models: resume, refusal, statistics against scipy and statsmodels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from eval.errors import MixedResults
from eval.faithfulness.correlation import COLUMNS, PairLimits, correlation, multi_token
from eval.faithfulness.dynamic_table import dynamic_table, from_json, to_json
from eval.faithfulness.running.pair_choice import one_token_pairs
from eval.faithfulness.setting_statistics import Lead, mean_r, paired_lead, r_by_layer
from eval.faithfulness.settings_comparison import compare_settings
from eval.faithfulness.static_scores import (
    COMPARED,
    PAPER,
    RESIDUAL,
    compared_settings,
    lead_in_settings,
    named_setting,
    static_scores,
)
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import EngineSettings
from tests.support.eval.faithfulness_models import relation_of, tiny_bench, tiny_relation, words

FEW = PairLimits(min_pairs=2)


def relations(bench):
    return [tiny_relation(bench.checkpoint, f"step-{step}", step=step) for step in (1, 2, 3)]


def test_table_holds_every_operation_and_r_is_scipys(tmp_path):
    bench = tiny_bench(tmp_path)
    table = correlation(bench, relations(bench), FEW)
    chosen, _ = one_token_pairs(relations(bench), bench.checkpoint.vocabulary, min_pairs=2)
    static, dynamic = static_scores(bench, chosen, PAPER), dynamic_table(bench, chosen)
    assert [row.name for row in table.rows] == ["step-1", "step-2", "step-3"]
    for row in table.rows:
        x = static[row.name].score.flatten().double().numpy()
        y = dynamic[row.name]["plain"].without_context.score.flatten().double().numpy()
        assert row.without_context.r == pytest.approx(stats.pearsonr(x, y).statistic)
        assert row.without_context.rho == pytest.approx(stats.spearmanr(x, y).statistic)
        assert row.prompts == 4 * row.pairs
    values = [row.with_context.r for row in table.rows]
    assert table.mean("with_context") == pytest.approx(np.mean(values))
    assert set(table.to_json()["mean_r"]) == set(COLUMNS)


def test_static_scores_are_the_engines(tmp_path):
    bench = tiny_bench(tmp_path)
    chosen, _ = one_token_pairs(relations(bench), bench.checkpoint.vocabulary, min_pairs=2)
    engine = MapsEngine(bench.checkpoint, EngineSettings("embedding", fold_norms=True))
    sets = [PairSet(tuple(s[0] for s in one.pairs.sources), one.pairs.targets, one.pairs.k) for one in chosen]
    found = static_scores(bench, chosen, named_setting(engine.settings))
    for one, theirs in zip(chosen, engine.score_pairs(sets, source="embedding"), strict=True):
        torch.testing.assert_close(found[one.name].score, theirs.score)
        torch.testing.assert_close(found[one.name].suppression, theirs.suppression)


def test_left_out_operations_are_named(tmp_path):
    bench = tiny_bench(tmp_path)
    short = relation_of("short", ((words(bench.checkpoint)[0], (words(bench.checkpoint)[1],)),))
    table = correlation(bench, [*relations(bench), short], FEW)
    assert [(one.name, one.why) for one in table.left_out] == [("short", "too few pairs (1 of 1)")]


def test_what_is_stored_is_not_run_again(tmp_path):
    bench = tiny_bench(tmp_path)
    first = correlation(bench, relations(bench), FEW)
    again = tiny_bench(tmp_path)
    second = correlation(again, relations(again), FEW)
    assert second == first
    assert "model" not in vars(again), "the running model was opened for nothing"


def test_only_the_missing_operation_is_run(tmp_path):
    bench = tiny_bench(tmp_path)
    first = correlation(bench, relations(bench), FEW)
    (bench.folder.path / "dynamic" / "step-2.json").write_text('{"identity": {')
    seen: list[tuple[str, int, int]] = []
    again = tiny_bench(tmp_path, progress=lambda *all_of_it: seen.append(all_of_it))
    assert correlation(again, relations(again), FEW) == first
    n = 4 * len(words(bench.checkpoint))
    assert seen[-1] == ("prompts run", n, n)


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"attention": "sdpa"}])
def test_other_settings_in_the_same_folder_are_refused(tmp_path, change):
    bench = tiny_bench(tmp_path)
    correlation(bench, relations(bench), FEW)
    other = tiny_bench(tmp_path, **change)
    (word, value), *_ = change.items()
    with pytest.raises(MixedResults, match=f"{word} '{value}'"):
        correlation(other, relations(other), FEW)


def test_other_pairs_in_the_same_folder_are_refused(tmp_path):
    bench = tiny_bench(tmp_path)
    correlation(bench, relations(bench), FEW)
    with pytest.raises(MixedResults, match=r"got pairs '\w{12}'; expected pairs"):
        correlation(bench, relations(bench), PairLimits(max_pairs=4, min_pairs=2))


_KILLED = """
import sys, time
from pathlib import Path
from eval.faithfulness import dynamic_table
from eval.faithfulness.correlation import correlation
from tests.support.eval.faithfulness_models import tiny_bench
from tests.eval.faithfulness.test_correlation import FEW, relations
dynamic_table._sources_at_a_time = lambda bench, n: 1
bench = tiny_bench(Path(sys.argv[1]))
write = bench.folder.write
def slow(name, *rest):
    print(name, flush=True)
    write(name, *rest)
    time.sleep(60 if name.endswith("step-2") else 0)
object.__setattr__(bench.folder, "write", slow)
correlation(bench, relations(bench), FEW)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    tiny_bench(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    worker = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.strip() == "dynamic/step-2":
            break
    for _ in range(200):
        if (tmp_path / "results" / "dynamic" / "step-2.json").exists():
            break
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    seen: list[tuple[str, int, int]] = []
    bench = tiny_bench(tmp_path, progress=lambda *all_of_it: seen.append(all_of_it))
    table = correlation(bench, relations(bench), FEW)
    assert seen[0][2] == 4 * len(words(bench.checkpoint)), "one operation was left to run"
    assert [row.name for row in table.rows] == ["step-1", "step-2", "step-3"]


def test_stored_scores_come_back(tmp_path):
    bench = tiny_bench(tmp_path)
    chosen, _ = one_token_pairs(relations(bench), bench.checkpoint.vocabulary, min_pairs=2)
    one = dynamic_table(bench, chosen)["step-1"]
    again = from_json(json.loads(json.dumps(to_json(one))))
    assert again["folded"].with_context is None
    torch.testing.assert_close(again["plain"].with_context.score, one["plain"].with_context.score, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        again["folded"].without_context.suppression, one["folded"].without_context.suppression, atol=1e-6, rtol=0
    )


def test_sources_of_several_tokens_go_against_one_token_scores(tmp_path):
    bench = tiny_bench(tmp_path)
    known = words(bench.checkpoint)
    pairs = [(f"{a} {a}", (b,)) for a, b in pairwise(known)]
    mixed = relation_of("mixed", (*tiny_relation(bench.checkpoint).pairs, *pairs))
    table = multi_token(bench, [mixed], FEW, min_several=5)
    assert table.rows[0].pairs == len(pairs)
    single = static_scores(bench, one_token_pairs([mixed], bench.checkpoint.vocabulary, min_pairs=2)[0], PAPER)
    assert table.rows[0].heads_static == int((single["mixed"].score >= 0.15).sum())
    none = multi_token(bench, [tiny_relation(bench.checkpoint)], FEW)
    assert not none.rows
    assert none.left_out[0].name == "neighbour"


# settings


def test_settings_are_compared_and_sorted(tmp_path):
    bench = tiny_bench(tmp_path)
    found = compare_settings(bench, relations(bench), FEW)
    values = [row.without_context["plain"] for row in found.rows]
    assert values == sorted(values, reverse=True)
    assert {row.setting for row in found.rows} == {one.name for one in COMPARED}
    assert sum(row.best_for for row in found.rows) == 3
    paper = next(row for row in found.rows if row.setting == PAPER.name)
    assert paper.lead == {"plain": 0.0, "folded": 0.0}
    assert paper.with_context_lead == paper.suppression_lead == Lead(0.0, 0.0, 0.0)
    assert all(row.several_tokens is None for row in found.rows)
    assert json.dumps(found.to_json())


def test_leads_with_context_and_in_suppression_are_differences_of_the_means(tmp_path):
    bench = tiny_bench(tmp_path)
    found = {row.setting: row for row in compare_settings(bench, relations(bench), FEW).rows}
    paper = found["paper"]
    for row in found.values():
        assert row.with_context_lead.value == pytest.approx(row.with_context - paper.with_context)
        assert row.suppression_lead.value == pytest.approx(row.suppression["plain"] - paper.suppression["plain"])
        assert row.with_context_lead.low <= row.with_context_lead.value <= row.with_context_lead.high


def test_r_of_a_layer_is_over_its_heads_and_all_operations(tmp_path):
    bench = tiny_bench(tmp_path)
    chosen, _ = one_token_pairs(relations(bench), bench.checkpoint.vocabulary, min_pairs=2)
    static, dynamic = static_scores(bench, chosen, PAPER), dynamic_table(bench, chosen)
    row = next(one for one in compare_settings(bench, relations(bench), FEW).rows if one.setting == "paper")
    for layer in range(2):
        x = [float(v) for one in chosen for v in static[one.name].score[layer]]
        y = [float(v) for one in chosen for v in dynamic[one.name]["plain"].without_context.score[layer]]
        assert len(x) == 3 * 4
        assert row.by_layer[layer] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert r_by_layer(static, {}) == ()
    still = {one.name: replace(static[one.name], score=static[one.name].score * 0) for one in chosen}
    assert r_by_layer(still, dynamic) == (None, None)


def test_sources_of_several_tokens_are_compared_where_asked_for(tmp_path):
    bench = tiny_bench(tmp_path)
    known = words(bench.checkpoint)
    pairs = tuple((f"{a} {a}", (b,)) for a, b in pairwise(known))
    mixed = [relation_of(one.name, (*one.pairs, *pairs)) for one in relations(bench)[:2]]
    found = compare_settings(bench, [*mixed, relations(bench)[2]], FEW, several_tokens=True)
    assert found.several_tokens_operations == 2
    for name in (PAPER.name, "embedding"):
        alone = multi_token(bench, mixed, FEW, setting=next(one for one in COMPARED if one.name == name))
        row = next(one for one in found.rows if one.setting == name)
        assert row.several_tokens == pytest.approx(np.mean([one.without_context.r or 0 for one in alone.rows]))


def test_lead_ins_have_rows_of_their_own_and_one_for_their_mean(tmp_path):
    bench = tiny_bench(tmp_path)
    found = compare_settings(bench, relations(bench), FEW, lead_ins=("it was", "the sea", "it was"))
    names = {"residual behind 'it was'", "residual behind 'the sea'", "residual, mean of 2 lead-ins"}
    assert {row.setting for row in found.rows} == {one.name for one in COMPARED} | names
    chosen, _ = one_token_pairs(relations(bench), bench.checkpoint.vocabulary, min_pairs=2)
    settings = EngineSettings("residual", lead_in=("it was", "the sea"))
    sets = [PairSet(tuple(s[0] for s in one.pairs.sources), one.pairs.targets, one.pairs.k) for one in chosen]
    theirs = MapsEngine(bench.checkpoint, settings).score_pairs(sets, source="residual")
    torch.testing.assert_close(static_scores(bench, chosen, named_setting(settings))["step-1"].score, theirs[0].score)


def test_one_lead_in_has_no_mean_and_none_is_the_row_that_is_there(tmp_path):
    bench = tiny_bench(tmp_path)
    assert [one.name for one in lead_in_settings(bench, ["it was"])] == ["residual behind 'it was'"]
    assert lead_in_settings(bench, [""]) == ()
    found = [one.settings.lead_in for one in lead_in_settings(bench, ["", "it was"])]
    assert found == [("it was",), ("", "it was")]
    with pytest.raises(UserMistake, match="no text"):
        lead_in_settings(bench, ["\udcff"])


def test_any_lead_in_has_a_name_and_a_file_of_its_own():
    texts = ["a", "'", '"', "../../a", "a/b", "a\\b", "a\nb", "\u202ea", "con", "A", "[/red]", "x" * 300, "x" * 301]
    made = [named_setting(EngineSettings("residual", lead_in=(text,))) for text in texts]
    made += [named_setting(EngineSettings("residual", lead_in=("a", text))) for text in texts]
    made += COMPARED
    files = [one.file_name.casefold() for one in made]
    assert len(set(files)) == len(files)
    assert all(re.fullmatch(r"[\w+-]+", one) for one in files)
    alone = [one.name for one in made[: len(texts)]]
    assert len(set(alone)) == len(texts)
    assert all(len(one) < 120 and one.isprintable() for one in alone)
    assert RESIDUAL.file_name == "residual"


def test_biases_are_compared_only_where_there_are_some(tmp_path):
    assert not any("biases" in one.name for one in compared_settings(tiny_bench(tmp_path / "a")))
    assert any("biases" in one.name for one in compared_settings(tiny_bench(tmp_path / "b", "gpt2")))


def test_a_mixture_is_not_read_through_a_first_mlp(tmp_path):
    bench = tiny_bench(tmp_path, "mixtral")
    assert {one.settings.source for one in compared_settings(bench)} == {"embedding", "residual"}
    found = compare_settings(bench, relations(bench), FEW)
    assert len(found.rows) == 4


def test_every_setting_has_its_own_name():
    names = [named_setting(one.settings).name for one in COMPARED]
    assert names == [one.name for one in COMPARED]
    assert named_setting(EngineSettings("first-mlp")).name == "paper"
    spelled = named_setting(EngineSettings("embedding", fold_norms=True, first_mlp_in_layer_0=True)).name
    assert spelled == "embedding, fold_norms, first_mlp_in_layer_0"


def test_leads_are_paired_by_operation():
    ours, theirs = {"a": 0.9, "b": 0.5, "c": None}, {"a": 0.7, "b": 0.3, "c": -0.2}
    assert astuple(paired_lead(ours, theirs)) == pytest.approx((0.2, 0.2, 0.2))
    assert mean_r(ours) == pytest.approx(1.4 / 3)
    assert paired_lead({}, {}) == Lead(0.0, 0.0, 0.0)
