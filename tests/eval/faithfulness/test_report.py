"""The report and the command: tables, sentences from numbers, figures, errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from eval.commands.check import app
from eval.commands.check_options import TEMPLATES
from eval.faithfulness.report import figures
from eval.faithfulness.report.cells import interval, number, small
from eval.faithfulness.report.reading import read_causal, read_correlation, read_cost, read_settings
from eval.faithfulness.report.text import table_text
from eval.faithfulness.running.templates import TEMPLATE_SETS
from tests.support.eval.faithfulness_models import relation_of, tiny_bench, tiny_relation, words
from tests.support.relation_files import format_relation

COST = {
    "device": "cpu",
    "threads": 1,
    "seconds": {"forward passes": 3.0},
    "processor_seconds": {"forward passes": 2.0},
    "peak_memory_mib": 500,
    "peak_gpu_memory_mib": 0,
}


def row(name: str, r: float | None, *, paper: bool = False, heads=(3, 4, 2)) -> dict:
    one = {"r": r, "p": 0.0004 if r is not None else None, "rho": r, "rho_p": 0.5, "n": 270}
    columns = ("without_context", "with_context", "suppression_without_context", "suppression_with_context")
    names = ("heads_static", "heads_dynamic", "heads_both")
    return (
        {"name": name, "category": "knowledge", "paper": paper, "k": 10, "pairs": 40, "prompts": 160}
        | dict.fromkeys(columns, one)
        | dict(zip(names, heads, strict=True))
    )


def correlations(*rows: dict) -> dict:
    mean = dict.fromkeys(("without_context", "with_context"), 0.61) | dict.fromkeys(
        ("suppression_without_context", "suppression_with_context"), 0.5
    )
    return {"setting": "paper", "heads": 270, "relations": list(rows), "mean_r": mean, "cost": COST} | {
        "mean_r_of_the_papers_operations": mean,
        "left_out": [],
    }


def spread(value: float, width: float = 0.1) -> dict:
    return {"value": value, "low": max(0.0, value - width), "high": min(1.0, value + width)}


def ablated(name: str, base: float, own: float, other: float) -> dict:
    point = {"relation": spread(own), "random": spread(other), "control": spread(0.5)}
    curve = [{"n": 0, "relation": spread(base), "random": spread(base)}, {"n": 4, **point}]
    return {"name": name, "prompts": 40, "heads": 9, "removed": 4, "base": spread(base), "controls": ["x"]} | {
        "control_base": spread(0.5),
        "zero": point,
        "mean": {**point, "control": {"value": None, "low": None, "high": None}},
        "curve": curve,
    }


def setting(name: str, r: float, lead: float, low: float) -> dict:
    both = lambda value: {"plain": value, "folded": value}  # noqa: E731
    return {"setting": name, "operations": 5, "best_for": 2, "without_context": both(r), "with_context": r} | {
        "suppression": both(r),
        "lead": both(lead),
        "lead_low": both(low),
        "lead_high": both(lead + 0.01),
        "with_context_lead": {"value": lead, "low": low, "high": 0.3},
        "suppression_lead": {"value": -lead, "low": -0.4, "high": 0.4},
        "by_layer": [r, None, -0.2, 0.4],
        "several_tokens": None,
    }


# text


def test_numbers():
    assert (number(None), number(0.126), small(None), small(0.04), small(0.0), small(3e-12)) == (
        "–",
        "0.13",
        "–",
        "0.040",
        "< 1e-300",
        "3e-12",
    )
    assert interval(spread(0.5)) == "0.50 [0.40, 0.60]"
    assert interval({"value": None, "low": None, "high": None}) == "–"
    assert interval({"value": 0.5, "low": None, "high": None}) == "0.50"


def test_correlation_table_sets_the_papers_numbers_beside_ours():
    text = table_text("correlation", correlations(row("own", None), row("copying", 0.5, paper=True)))
    first = text.splitlines()[2]
    assert first.startswith("| copying * | 40 | 0.50 | 4e-04 | 0.50 |")
    assert first.endswith("| 0.76 / 0.73 |")
    assert "| own | 40 | – |" in text


def test_names_of_operations_are_no_markdown():
    hostile = "![x](http://e.org/p.png)"
    result = correlations(row(hostile, 0.3), row("plain", 0.9))
    for text in (table_text("correlation", result), " ".join(read_correlation(result))):
        assert "!\\[x\\](http" in text
        assert hostile not in text


def test_reading_names_what_reads_poorly_and_what_differs():
    rows = [row("copying", 0.3, paper=True), row("name-copying", 0.96, paper=True), row("silent", None)]
    text = " ".join(read_correlation(correlations(*rows)))
    assert "Over 2 operations and 270 heads" in text
    assert "Poorly read: copying (0.30)." in text
    assert "No score varies over heads for silent" in text
    assert "More than 0.1 lower than there: copying (0.30 against 0.76)." in text
    assert "higher" not in text
    assert "6 heads reach 0.15 by weights and 8 at inference" in text
    assert "67% of those that the weights name" in text
    assert "Llama" not in " ".join(read_correlation(correlations(*rows), several_tokens=True))
    idle = " ".join(read_correlation(correlations(row("a", 0.9), row("b", 0.5), row("c", 0.1, heads=(0, 0, 0)))))
    assert "over the 2 operations that some head does at inference (0.15 or more without context) is 0.70" in idle
    assert "over the 1 that no head does, where r rests on a few low scores, 0.10" in idle
    assert read_correlation(correlations()) == ["No operation could be compared."]
    assert "0 by weights" in read_correlation(correlations(row("a", 0.9, heads=(0, 2, 0))))[-1]


def test_causal_reading_goes_by_intervals():
    rows = [ablated("copying", 1.0, 0.2, 0.9), ablated("unmoved", 0.8, 0.75, 0.8)]
    result = {"relations": rows, "tau": 0.15, "skipped": [{"name": "year-to-following", "why": "too few pairs"}]}
    text = " ".join(read_causal(result))
    assert "1 lose more" in text
    assert "No such difference for unmoved." in text
    assert "20% of the base accuracy is left here and 68% there" in text
    assert "57% / 95% / 100% (zero)" in text
    table = table_text("causal", result)
    assert "1.00 → 0.68 / 1.00 / 0.88" in table
    assert "Left out: year-to-following (too few pairs)." in table
    assert read_causal({"relations": [], "tau": 0.15})[0].startswith("No operation passed")


def test_settings_reading_says_whether_one_wins():
    rows = [setting("embedding", 0.8, 0.1, 0.05), setting("paper", 0.7, 0.0, 0.0), setting("residual", 0.6, -0.1, -0.2)]
    text = " ".join(read_settings({"settings": rows, "clear_winner": "embedding"}))
    assert "embedding wins clearly" in text
    assert "0.700, place 2 of 3" in text
    assert "none wins clearly" in " ".join(read_settings({"settings": rows, "clear_winner": None}))
    assert "| embedding | 0.800 |" in table_text("compare-settings", {"settings": rows})
    assert read_settings({"settings": [], "clear_winner": None}) == []
    assert "Sources of several tokens: 4 operations" in " ".join(
        read_settings({"settings": rows, "clear_winner": None, "several_tokens_operations": 4})
    )


def test_settings_table_has_a_lead_for_every_measure():
    rows = [setting("embedding", 0.8, 0.1, 0.05), setting("paper", 0.7, 0.0, 0.0)]
    first = table_text("compare-settings", {"settings": rows}).splitlines()[2]
    assert first == (
        "| embedding | 0.800 | +0.100 [+0.050, +0.110] | 0.800 | +0.100 [+0.050, +0.300] "
        "| 0.800 | -0.100 [-0.400, +0.400] | 2 of 5 | 0.800 | +0.100 [+0.050, +0.110] |"
    )
    ran = table_text("compare-settings", {"settings": [one | {"several_tokens": 0.25} for one in rows]}).splitlines()
    assert ran[0].endswith("| several tokens |")
    assert ran[2].endswith("| 0.250 |")
    new = ("with_context_lead", "suppression_lead", "by_layer", "several_tokens")
    earlier = [{key: value for key, value in one.items() if key not in new} for one in rows]
    assert "| 0.800 | – | 0.800 | – |" in table_text("compare-settings", {"settings": earlier})


def test_names_of_settings_are_no_markdown():
    hostile = "residual behind '![x](http://e.org/p.png) <script>|'"
    rows = [setting(hostile, 0.8, 0.1, 0.05), setting("paper", 0.7, 0.0, 0.0)]
    result = {"settings": rows, "clear_winner": hostile}
    for text in (table_text("compare-settings", result), " ".join(read_settings(result))):
        assert "!\\[x\\](http" in text
        assert hostile not in text
        assert "<script" not in text.replace("\\<", "")


def test_cost_is_told():
    assert read_cost({"cost": COST}) == (
        "Cost on cpu, 1 threads: forward passes 3 s (2 s of processor); peak memory 500 MiB."
    )
    assert "on the GPU 7 MiB" in read_cost({"cost": COST | {"peak_gpu_memory_mib": 7}})


# figures


@pytest.mark.parametrize("n", [1, 5])
def test_figures_are_whole_svg_and_the_same_every_time(n):
    panels = {f"r{i}": (torch.rand(2, 3), torch.rand(2, 3), 0.5 if i else None) for i in range(n)}
    for svg in (
        figures.scatter_grid(panels),
        figures.ablation_curves([ablated(f"r{i}", 1.0, 0.2, 0.9) for i in range(n)]),
        figures.setting_bars([setting(f"$s{i} behind '\\alpha'", 0.5, 0.0, 0.0) for i in range(n)]),
        figures.layer_lines([setting(f"s{i}", 0.5, 0.0, 0.0) for i in range(n)]),
    ):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert figures.scatter_grid(panels) == figures.scatter_grid(panels)


# the command


@pytest.fixture
def place(tmp_path) -> Path:
    """A tiny model and a folder of operations for it."""
    bench = tiny_bench(tmp_path)
    known = words(bench.checkpoint)
    several = tuple((f"{a} {a}", (known[0],)) for a in known[1:])
    (tmp_path / "pairs").mkdir()
    for step in (1, 2):
        one = tiny_relation(bench.checkpoint, f"step-{step}", step=step)
        whole = relation_of(one.name, (*one.pairs, *several))
        (tmp_path / "pairs" / f"{one.name}.json").write_text(format_relation(whole))
    return tmp_path


def call(place: Path, command: str, *more: str):
    base = ["--model", str(place / "model"), "--out", str(place / "out"), "--device", "cpu"]
    return CliRunner().invoke(app, [command, *base, *more])


def experiment(place: Path, command: str, *more: str):
    options = ["--pairs", str(place / "pairs")]
    options += [] if command == "causal" else ["--min-pairs", "5"]
    return call(place, command, *options, *more)


def test_all_commands_and_the_report(place):
    for command in ("correlation", "multi-token", "compare-settings"):
        result = experiment(place, command)
        assert result.exit_code == 0, result.output
        assert "| step-1" in result.output or "| paper |" in result.output
        assert f"{command}.json" in result.output
    result = call(place, "report")
    assert result.exit_code == 0, result.output
    html = (place / "out" / "report.html").read_text()
    assert html.count("<h2>") == 3
    assert html.count('<img class="figure" src="data:image/svg+xml;base64,') == 3
    assert html.count("<figcaption>") == 3
    assert '<th scope="col">operation</th>' in html
    assert '<td class="num">' in html
    assert "<script" not in html
    text = (place / "out" / "report.md").read_text()
    assert "figures/static-dynamic.svg" in text
    assert (place / "out" / "figures" / "settings.svg").exists()
    assert (place / "out" / "figures" / "layers.svg").exists()
    assert text.count("Templates, paper: “This is a document about X”;") == 3


def test_lead_ins_and_sources_of_several_tokens_are_compared(place):
    options = ["--lead-in", "it was", "--lead-in", "../../the|sea", "--several-tokens", "--templates", "own"]
    result = experiment(place, "compare-settings", *options)
    assert result.exit_code == 0, result.output
    assert "| residual behind 'it was' |" in result.output
    assert "| residual behind '../../the\\|sea' |" in result.output
    assert "| residual, mean of 2 lead-ins |" in result.output
    assert "| several tokens |" in result.output
    assert "templates, own: “Our teacher wrote down X”" in result.output
    stored = json.loads((place / "out" / "compare-settings.json").read_text())["result"]
    assert stored["templates"] == list(TEMPLATE_SETS["own"])
    assert stored["several_tokens_operations"] == 2
    assert {len(one["by_layer"]) for one in stored["settings"]} == {2}
    assert len(list((place / "out" / "static").glob("residual-behind-*.json"))) == 3
    assert not list(place.glob("*sea*"))
    assert call(place, "report").exit_code == 0
    assert "Templates, own: “Our teacher" in (place / "out" / "report.md").read_text()


def test_a_lead_in_that_cannot_be_read_is_refused_before_anything_runs(place):
    result = experiment(place, "compare-settings", "--lead-in", "it was", "--lead-in", "\0")
    assert result.exit_code == 2
    assert "lead-in has tokens that this model does not know" in result.output
    assert not (place / "out" / "dynamic").exists()


def test_templates_do_not_mix_in_a_folder_whatever_the_operations(place):
    assert experiment(place, "correlation", "--relations", "step-1").exit_code == 0
    for command in ("correlation", "multi-token", "compare-settings"):
        result = experiment(place, command, "--relations", "step-2", "--templates", "both")
        assert result.exit_code == 2
        assert "was made under other settings: got templates" in result.output
    assert experiment(place, "correlation", "--relations", "step-2").exit_code == 0


def test_both_sets_of_templates_run_as_eight_prompts(place):
    shown = json.loads(experiment(place, "correlation", "--templates", "both", "--json").stdout)
    assert {row["prompts"] for row in shown["relations"]} == {8 * row["pairs"] for row in shown["relations"]}
    assert len(shown["templates"]) == 8


def test_json_is_the_stored_table(place):
    result = experiment(place, "correlation", "--json")
    shown = json.loads(result.stdout)
    stored = json.loads((place / "out" / "correlation.json").read_text())["result"]
    assert shown == stored
    assert shown["cost"]["peak_memory_mib"] > 0
    assert {one["name"] for one in shown["relations"]} == {"step-1", "step-2"}


def test_a_resumed_run_tells_the_cost_of_both(place):
    first = json.loads(experiment(place, "correlation", "--json").stdout)["cost"]
    second = json.loads(experiment(place, "correlation", "--json").stdout)["cost"]
    assert second["seconds"]["forward passes"] == first["seconds"]["forward passes"]
    assert second["peak_memory_mib"] >= first["peak_memory_mib"]


def test_causal_without_prompts_for_its_operations_is_empty_and_says_so(place):
    result = experiment(place, "causal", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["relations"] == []


def test_options_come_from_the_environment(place, monkeypatch):
    monkeypatch.setenv("HEADSCRIBE_DTYPE", "int3")
    result = experiment(place, "correlation")
    assert result.exit_code == 2
    assert "unknown dtype: got int3" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nowhere"], "unknown source representation"),
        (["--attention", "flash"], "unknown attention"),
        (["--templates", "mine"], "unknown set of templates: got mine; expected paper, own, both"),
        (["--device", "abacus"], "unknown device"),
        (["--model", "./none.gguf"], "no such model"),
        (["--pairs", "none.json"], "none.json"),
        (["--relations", "step-3,step-1"], "no such operation in --pairs: got step-3; expected step-1, step-2"),
        (["--relations", " , "], "--relations names no operation"),
    ],
)
def test_mistakes_are_one_line(place, options, message):
    result = experiment(place, "correlation", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_unknown_operations_are_named(place):
    result = call(place, "correlation", "--relations", "copyin")
    assert result.exit_code == 2
    assert "Did you mean copying" in result.output
    result = call(place, "causal", "--relations", "word-to-rhyme")
    assert result.exit_code == 2
    assert "no few-shot prompt" in result.output


def test_other_settings_in_the_same_folder_stop_the_command(place):
    assert experiment(place, "correlation").exit_code == 0
    result = experiment(place, "correlation", "--dtype", "bfloat16")
    assert result.exit_code == 2
    assert "was made under other settings" in result.output


def test_a_report_on_nothing_and_on_another_model(place, tmp_path):
    result = call(place, "report")
    assert result.exit_code == 2
    assert "no results to report on" in result.output
    experiment(place, "correlation")
    other = tiny_bench(tmp_path / "other", "gpt2")
    result = call(place, "report", "--model", other.checkpoint.name)
    assert result.exit_code == 2
    assert "of another checkpoint" in result.output


def test_results_go_to_the_data_folder_without_out(place, monkeypatch):
    monkeypatch.setenv("HEADSCRIBE_DATA", str(place / "data"))
    options = ["--pairs", str(place / "pairs"), "--min-pairs", "5", "--device", "cpu", "--model", str(place / "model")]
    result = CliRunner().invoke(app, ["correlation", *options])
    assert result.exit_code == 0, result.output
    assert list((place / "data" / "faithfulness").glob("*/correlation.json"))


def test_the_option_names_all_sets_of_templates():
    assert tuple(TEMPLATE_SETS) == TEMPLATES


def test_help_needs_no_heavy_import():
    code = (
        "import sys, eval.commands.check as cli\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(cli.app, ['correlation', '--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformers', 'scipy', 'matplotlib', 'chromadb', 'langchain'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
