"""Tables of the results in Markdown, in the paper's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.checks.new_pairs import HIGH_OF_CLASSES
from agent.output.markdown import escaped, table
from eval.faithfulness.report.attention import attention_table
from eval.faithfulness.report.cells import interval, lead, number, small
from eval.faithfulness.report.paper_figures import LLAMA_8B_R, PYTHIA_12B_ABLATION

Row = Mapping[str, Any]


def table_text(kind: str, result: Row) -> str:
    """The table of one experiment as Markdown."""
    return _TABLES[kind](result)


def correlation_table(result: Row) -> str:
    """Operation by operation, the paper's first; r of Llama-3.1 8B beside ours where the paper prints it."""
    head = ["operation", "pairs", "r without context", "p", "ρ", "r with context", "p"]
    head += ["suppression r without", "with", "heads ≥ 0.15: weights / inference / both", "paper's 8B without / with"]
    rows = []
    for row in sorted(result["relations"], key=lambda one: (not one["paper"], one["name"])):
        without, within = row["without_context"], row["with_context"]
        theirs = LLAMA_8B_R.get(row["name"])
        rows.append(
            [
                escaped(row["name"]) + (" *" if row["paper"] else ""),
                str(row["pairs"]),
                number(without["r"]),
                small(without["p"]),
                number(without["rho"]),
                number(within["r"]),
                small(within["p"]),
                number(row["suppression_without_context"]["r"]),
                number(row["suppression_with_context"]["r"]),
                f"{row['heads_static']} / {row['heads_dynamic']} / {row['heads_both']}",
                f"{theirs[0]:.2f} / {theirs[1]:.2f}" if theirs else "",
            ]
        )
    for label, means in _means(result):
        r = [number(means[c]) for c in ("without_context", "with_context")]
        s = [number(means[c]) for c in ("suppression_without_context", "suppression_with_context")]
        rows.append([label, "", r[0], "", "", r[1], "", s[0], s[1], "", ""])
    return table(head, rows)


def _means(result: Row) -> list[tuple[str, Row]]:
    found = [("**mean over all**", result["mean_r"])]
    if any(row["paper"] for row in result["relations"]):
        found.append(("**mean over the paper's (*)**", result["mean_r_of_the_papers_operations"]))
    return found


def causal_table(result: Row) -> str:
    """Accuracy before and after removal, zero and mean; Pythia 12B's beside ours where the paper prints it."""
    head = ["operation", "prompts", "heads removed", "base"]
    head += ["zero: operation's", "zero: random", "zero: control", "control base"]
    head += ["mean: operation's", "mean: random", "mean: control", "paper's 12B: base → own / random / control"]
    rows = []
    for row in result["relations"]:
        theirs = PYTHIA_12B_ABLATION.get(row["name"])
        zero, mean = row["zero"], row["mean"]
        rows.append(
            [
                escaped(row["name"]),
                str(row["prompts"]),
                f"{row['removed']} of {row['heads']}",
                interval(row["base"]),
                *(interval(zero[what]) for what in ("relation", "random", "control")),
                interval(row["control_base"]),
                *(interval(mean[what]) for what in ("relation", "random", "control")),
                "{:.2f} → {:.2f} / {:.2f} / {:.2f}".format(*theirs) if theirs else "",
            ]
        )
    return "\n\n".join([table(head, rows), *_against_table(result), skipped_text(result["skipped"])])


def _against_table(result: Row) -> list[str]:
    """The two choices of heads side by side; nothing where a run, or one of an earlier version, compared none."""
    found = result.get("against")
    if not found or not found["differences"]:
        return []
    head = [
        "heads removed",
        "operations",
        "heads that both choose",
        f"accuracy lost beyond {escaped(found['setting'])}'s",
    ]
    rows = [
        ["all" if one["n"] is None else str(one["n"]), str(one["operations"]), f"{one['shared']:.0%}", lead(one)]
        for one in found["differences"]
    ]
    return [table(head, rows)]


def skipped_text(skipped: Sequence[Row]) -> str:
    """What was left out, and why."""
    if not skipped:
        return "Nothing was left out."
    return "Left out: " + "; ".join(escaped(f"{one['name']} ({one['why']})") for one in skipped) + "."


def settings_table(result: Row) -> str:
    """Every setting by mean r, plain and folded projection, and its leads over the paper's.

    What a folder of an earlier version does not hold is a dash; sources of several tokens have a column where they ran.
    """
    head = ["setting", "mean r without context", "lead over paper", "with context", "lead over paper"]
    head += ["suppression", "lead over paper", "best for", "folded projection: mean r", "lead over paper"]
    several = any(one.get("several_tokens") is not None for one in result["settings"])
    head += ["several tokens"] if several else []
    rows = [
        [
            escaped(one["setting"]),
            number(one["without_context"]["plain"], 3),
            _lead_under(one, "plain"),
            number(one["with_context"], 3),
            lead(one.get("with_context_lead")),
            number(one["suppression"]["plain"], 3),
            lead(one.get("suppression_lead")),
            f"{one['best_for']} of {one['operations']}",
            number(one["without_context"]["folded"], 3),
            _lead_under(one, "folded"),
            *([number(one["several_tokens"], 3)] if several else []),
        ]
        for one in result["settings"]
    ]
    return table(head, rows)


def _lead_under(one: Row, projection: str) -> str:
    return lead({"value": one["lead"][projection]} | {end: one[f"lead_{end}"][projection] for end in ("low", "high")})


def descriptions_table(result: Row) -> str:
    """Shares of true names: all, by half of the model, by operation, and by the verdict of the run's own test."""
    parts = [("**all**", result["all"])]
    parts += [(f"{one['half']} half of the layers", one) for one in result["halves"]]
    parts += [(escaped(one["operation"]), one) for one in result["operations"]]
    head = ["names", "heads", "true, attention forced to the source", "true, as the model attends"]
    rows = [[label, str(one["heads"]), interval(one["forced"]), interval(one["natural"])] for label, one in parts]
    others = result["other_heads"]
    rows.insert(1, ["the same names, of the other heads", "", number(others["forced"]), number(others["natural"])])
    if each := result.get("each_operation"):
        cells = [str(each["heads"]), interval(each["forced"]), interval(each["natural"])]
        rows.insert(2, ["every operation (its number in place of heads)", *cells])
    shown = [table(head, rows), _verdicts_table(result["verdicts"])]
    found = result.get("found")  # results of earlier versions lack it
    return "\n\n".join([*shown, *([_found_table(found)] if found else []), _untestable(result)])


def _found_table(found: Mapping[str, Row]) -> str:
    """Of what heads do when the model runs, how much is said of them."""
    head = ["known operations that heads do", "cases", "of these said", "heads that do one", "of these said to do one"]
    said = {"forced": "attention forced to the source", "natural": "as the model attends"}
    rows = [
        [said[name], str(one["cases"]["n"]), interval(one["cases"]), str(one["heads"]["n"]), interval(one["heads"])]
        for name, one in found.items()
    ]
    return table(head, rows)


def _untestable(result: Row) -> str:
    """How many names were not run, and why."""
    reasons = result["not_testable"]
    listed = "; ".join(f"{escaped(why)} ({n})" for why, n in reasons.items())
    return f"Not testable: {sum(reasons.values())} of {result['named']} names" + (f": {listed}." if listed else ".")


def _verdicts_table(verdicts: Sequence[Row]) -> str:
    head = ["test from weights said", "forced: true", "not true", "share true", "as it attends: true", "not true"]
    head += ["share true", "could not be run"]
    rows = []
    for one in verdicts:
        cells = [one["verdict"]]
        for condition in ("forced", "natural"):
            true = round((one[condition]["value"] or 0) * one["heads"])
            cells += [str(true), str(one["heads"] - true), interval(one[condition])]
        rows.append([*cells, str(one["not_run"])])
    return table(head, rows)


def final_logits_table(result: Row) -> str:
    """z and hits above shuffled by operation and choice of heads, what they differ by, and r of phi with hits."""
    known = list(result["means"])
    head = ["operation", "pairs", "heads of both settings"]
    head += [f"{choice}: {what}" for choice in known for what in ("z above shuffled", "hits above shuffled")]
    rows = []
    for row in sorted(result["relations"], key=lambda one: (not one["paper"], one["name"])):
        name = escaped(row["name"]) + (" *" if row["paper"] else "")
        shared = "–" if row["shared"] is None else f"{row['shared']} of {result['heads_a_choice']}"
        cells = [number(row["choices"][choice][f"{m}_above"]) for choice in known for m in ("z", "hit")]
        rows.append([name, str(row["pairs"]), shared, *cells])
    means = [interval(result["means"][choice][m]) for choice in known for m in ("z", "hit")]
    rows.append(["**mean over all**", "", "", *means])
    parts = [table(head, rows), _differences_table(result["differences"]), _halves_table(result["halves"])]
    return "\n\n".join([*parts, _logits_r_table(result["r"]), skipped_text(result["skipped"])])


def _differences_table(differences: Sequence[Row]) -> str:
    rows = [[f"{one['of']} less {one['less']}", lead(one["z"]), lead(one["hit"])] for one in differences]
    return table(["paired by operation", "z above shuffled", "hits above shuffled"], rows)


def _halves_table(halves: Sequence[Row]) -> str:
    rows = [
        [f"{one['choice']}, {one['half']} half", str(one["heads"]), number(one["z"]), number(one["hit"])]
        for one in halves
    ]
    return table(["heads by half of the layers", "heads", "z above shuffled", "hits above shuffled"], rows)


def _logits_r_table(found: Sequence[Row]) -> str:
    rows = [[one["setting"], interval(one), lead(one["lead"])] for one in found]
    return table(["φ under", "mean r with hits over the chosen heads", "lead over paper"], rows)


def null_heads_table(result: Row) -> str:
    """Real and null heads named and supported, by half of the layers."""
    head = ["heads", "number", "named", "supported", "weak", "operations", "parts named"]
    rows = []
    for one in result["rates"]:
        shares = [f"{one[what]} ({one[what] / max(1, one['heads']):.1%})" for what in ("named", "supported", "weak")]
        parts = "–"  # of results from before parts were counted
        if "parts" in one:
            parts = f"{one['parts_named']} of {one['parts']} ({one['parts_named'] / max(1, one['parts']):.1%})"
        operations = str(one.get("operations", "–"))
        rows.append([f"{one['set']}, {one['half']} half", str(one["heads"]), *shares, operations, parts])
    curve = result.get("curve")  # results of earlier versions lack it
    return "\n\n".join([table(head, rows), *([CURVE, _curve_table(curve)] if curve else [])])


CURVE = "Heads with a supported claim, by the percentile among the other heads that is asked of claims of classes:"


def _curve_table(found: Sequence[Row]) -> str:
    """Heads with a supported claim, by the percentile that claims of classes need."""
    columns = list(dict.fromkeys((one["set"], one["half"]) for one in found))
    counts = {(one["percentile"], one["set"], one["half"]): one["supported"] for one in found}
    head = ["percentile", *(f"{name}, {half} half" for name, half in columns)]
    percentiles = dict.fromkeys(one["percentile"] for one in found)
    taken = {HIGH_OF_CLASSES: " (asked)"}
    return table(
        head,
        [[f"{asked:g}{taken.get(asked, '')}", *(str(counts[asked, *one]) for one in columns)] for asked in percentiles],
    )


def parts_table(result: Row) -> str:
    """z of the targets with the whole head, and with one part's directions or random ones taken out."""
    head = ["head", "operation", "part", "words", "whole", "own part out", "other part out", "random out", "noise"]
    rows = [
        [
            f"{one['layer']}.{one['head']}", escaped(one["operation"]), str(one["part"] + 1), str(one["words"]),
            *(number(one[kind]["z"]) for kind in ("whole", "own", "other", "random", "noise")),
        ]
        for one in result["operations"]
    ]  # fmt: skip
    lost = result["lost"]
    if lost:
        rows.append(
            ["**mean lost**", "", "", "", "", *(interval(lost[kind]) for kind in ("own", "other", "random", "noise"))]
        )
    return table(head, rows)


_TABLES: dict[str, Callable[[Row], str]] = {
    "correlation": correlation_table,
    "multi-token": correlation_table,
    "causal": causal_table,
    "compare-settings": settings_table,
    "final-logits": final_logits_table,
    "descriptions": descriptions_table,
    "null-heads": null_heads_table,
    "parts": parts_table,
    "attention": attention_table,
}
