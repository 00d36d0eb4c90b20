"""What the numbers say, in Markdown sentences made from the numbers and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agent.output.markdown import escaped
from eval.faithfulness.report.cells import interval, number
from eval.faithfulness.report.paper_figures import LLAMA_8B_R, PYTHIA_12B_ABLATION

Row = Mapping[str, Any]
WEAK = 0.5  # r below which an operation is named as poorly read
APART = 0.1  # from the paper's r


def read_correlation(result: Row, *, several_tokens: bool = False) -> list[str]:
    """Sentences on a correlation table."""
    rows = [row for row in result["relations"] if row["without_context"]["r"] is not None]
    silent = [row["name"] for row in result["relations"] if row["without_context"]["r"] is None]
    if not rows:
        return ["No operation could be compared."]
    mean = result["mean_r"]
    text = [
        f"Over {len(rows)} operations and {result['heads']} heads, scores from weights ({result['setting']}) agree "
        f"with scores at inference with mean r = {number(mean['without_context'])} without context and "
        f"{number(mean['with_context'])} with context; suppression {number(mean['suppression_without_context'])} and "
        f"{number(mean['suppression_with_context'])}."
    ]
    strong = sum(row["without_context"]["r"] >= 0.7 for row in rows)
    weak = sorted((row["without_context"]["r"], row["name"]) for row in rows if row["without_context"]["r"] < WEAK)
    text.append(f"{strong} of {len(rows)} operations reach r = 0.7 without context; {len(weak)} stay below {WEAK}.")
    if weak:
        text.append("Poorly read: " + _listed(f"{name} ({r:.2f})" for r, name in weak) + ".")
    if silent:
        text.append("No score varies over heads for " + _listed(silent) + ", so there is no r.")
    done = [row["without_context"]["r"] for row in rows if row["heads_dynamic"]]
    if done and len(done) < len(rows):
        idle = [row["without_context"]["r"] for row in rows if not row["heads_dynamic"]]
        text.append(
            f"Mean r over the {len(done)} operations that some head does at inference (0.15 or more without context) "
            f"is {sum(done) / len(done):.2f}; over the {len(idle)} that no head does, where r rests on a few low "
            f"scores, {sum(idle) / len(idle):.2f}."
        )
    if not several_tokens:
        text += _against_paper(rows)
    return [*text, *_heads_found(rows)]


def _against_paper(rows: Sequence[Row]) -> list[str]:
    shared = [row for row in rows if row["name"] in LLAMA_8B_R]
    if not shared:
        return []
    ours = sum(row["without_context"]["r"] for row in shared) / len(shared)
    theirs = sum(LLAMA_8B_R[row["name"]][0] for row in shared) / len(shared)
    text = [
        f"On the {len(shared)} operations whose r the paper prints for Llama-3.1 8B, this model has mean r "
        f"{ours:.2f} without context against {theirs:.2f}."
    ]
    for word, sign in (("lower", -1), ("higher", 1)):
        apart = [
            f"{row['name']} ({row['without_context']['r']:.2f} against {LLAMA_8B_R[row['name']][0]:.2f})"
            for row in shared
            if sign * (row["without_context"]["r"] - LLAMA_8B_R[row["name"]][0]) > APART
        ]
        if apart:
            text.append(f"More than {APART} {word} than there: {_listed(apart)}.")
    return text


def _heads_found(rows: Sequence[Row]) -> list[str]:
    static, dynamic, both = (sum(row[f"heads_{side}"] for row in rows) for side in ("static", "dynamic", "both"))
    if not static or not dynamic:
        return [f"Heads at 0.15, counted over operations: {static} by weights, {dynamic} at inference."]
    return [
        f"Counted over operations, {static} heads reach 0.15 by weights and {dynamic} at inference without context; "
        f"{both} do both: {both / static:.0%} of those that the weights name do it at inference, and the weights "
        f"name {both / dynamic:.0%} of those that do it."
    ]


def read_causal(result: Row) -> list[str]:
    """Sentences on the causal table: drops beyond the random draws, by intervals."""
    rows = result["relations"]
    if not rows:
        return ["No operation passed the base accuracy and had heads to remove."]
    hit = [row for row in rows if row["zero"]["relation"]["high"] < row["zero"]["random"]["low"]]
    unmoved = [row["name"] for row in rows if row not in hit]
    text = [
        f"Of {len(rows)} operations with base accuracy of at least 0.1 and a head at {result['tau']}, "
        f"{len(hit)} lose more when their own heads are zeroed than when as many random heads are (95 % intervals "
        "apart)."
    ]
    if unmoved:
        text.append(f"No such difference for {_listed(unmoved)}.")
    text.append(_mean_drops(rows))
    shared = [row["name"] for row in rows if row["name"] in PYTHIA_12B_ABLATION]
    lost = [row for row in rows if row["name"] in shared]
    if lost:
        ours = sum(_kept(row["base"]["value"], row["zero"]["relation"]["value"]) for row in lost) / len(lost)
        theirs = sum(_kept(PYTHIA_12B_ABLATION[n][0], PYTHIA_12B_ABLATION[n][1]) for n in shared) / len(shared)
        text.append(
            f"On the {len(lost)} operations that the paper ablates in Pythia 12B, {ours:.0%} of the base accuracy "
            f"is left here and {theirs:.0%} there (heads removed here: {_listed(_removed(lost))})."
        )
    return [*text, *_two_choices(result)]


def _two_choices(result: Row) -> list[str]:
    """Whether this reading's heads hurt more than as many of the other's; nothing where none was compared with."""
    found = result.get("against")
    if not found or not found["differences"]:
        return []
    last = found["differences"][-1]
    sure = (
        "clearly more" if last["low"] > 0 else "clearly less" if last["high"] < 0 else "neither clearly more nor less"
    )
    return [
        f"Heads chosen by {escaped(result['setting'])} hurt {sure} than as many chosen by {escaped(found['setting'])}: "
        f"{last['value']:+.3f} of accuracy ({last['low']:+.3f} to {last['high']:+.3f}) over {last['operations']} "
        f"operations; {last['shared']:.0%} of the heads are the same."
    ]


def _removed(rows: Sequence[Row]) -> list[str]:
    return [f"{row['name']} {row['removed']}" for row in rows]


def _mean_drops(rows: Sequence[Row]) -> str:
    def left(mode: str, what: str, base: str = "base") -> str:
        pairs = [(row[base]["value"], row[mode][what]["value"]) for row in rows]
        known = [_kept(b, after) for b, after in pairs if b and after is not None]
        return f"{sum(known) / len(known):.0%}" if known else "–"

    parts = [
        f"{left(mode, 'relation')} / {left(mode, 'random')} / {left(mode, 'control', 'control_base')} ({mode})"
        for mode in ("zero", "mean")
    ]
    return (
        "Share of the base accuracy that is left, mean over operations, own heads / random heads / control tasks: "
        + " and ".join(parts)
        + "."
    )


def _kept(base: float, after: float) -> float:
    return after / base if base else 0.0


def read_settings(result: Row) -> list[str]:
    """Sentences on the comparison of settings."""
    rows = result["settings"]
    if not rows:
        return []
    best, paper = rows[0], next((row for row in rows if row["setting"] == "paper"), None)
    text = [f"Best by mean r without context: {escaped(best['setting'])} ({best['without_context']['plain']:.3f})."]
    if paper is not None:
        place = rows.index(paper) + 1
        text.append(f"The paper's setting has {paper['without_context']['plain']:.3f}, place {place} of {len(rows)}.")
    winner = result["clear_winner"]
    if winner:
        text.append(
            f"{escaped(winner)} wins clearly on this model: it leads the paper's setting by 0.02 or more with an "
            "interval above 0, under either projection. The paper's numbers stay reproducible with --source first-mlp."
        )
    else:
        text.append(
            "No setting leads the paper's by 0.02 or more with an interval above 0 under both projections, so none "
            "wins clearly on this model."
        )
    if result.get("several_tokens_operations"):
        text.append(
            f"Sources of several tokens: {result['several_tokens_operations']} operations, read at the last token, "
            "against the scores of one-token sources."
        )
    return text


PROJECTED: Final = {
    "folded": "What heads write is projected behind the gain of the final norm, as the model does for its logits.",
    "plain": "What heads write is projected with the unembedding as it stands, as in the paper.",
}


def read_descriptions(result: Row) -> list[str]:
    """Sentences on the names of a run."""
    statuses = result["statuses"]
    said = ", ".join(f"{statuses.get(one, 0)} {one}" for one in ("ok", "unclear", "failed"))
    text = [f"Run {result['run']} has {sum(statuses.values())} heads: {said}."]
    if not result["tested"]:
        return [*text, "No name could be tested on the running model."]
    shares, others = result["all"], result["other_heads"]
    text.append(PROJECTED[result.get("projection", "plain")])  # results of earlier versions do not say it
    text.append(
        f"Of {result['tested']} names that give pairs, a share of {interval(shares['forced'])} is true of the running "
        f"model when attention is forced to the source, and {interval(shares['natural'])} as the model attends."
    )
    text.append(
        f"By the same rule a name would be true of {others['forced']:.1%} and {others['natural']:.1%} of the other "
        "heads of the model, on average: what a name dealt to a random head would reach."
    )
    if result["without_shuffle"]:
        text.append(
            f"Names for which shuffled pairs say nothing: {result['without_shuffle']}. Their sources share their "
            "targets, or too few pairs are left, so that a head that writes these words whatever it reads passes."
        )
    return [*text, *_judged(result["verdicts"]), *_each_and_found(result)]


def _each_and_found(result: Row) -> list[str]:
    """All operations of heads, and heads that do one and are not said to; results of earlier versions have neither."""
    text, each, found = [], result.get("each_operation"), result.get("found")
    if each:
        text.append(
            f"Of all {each['heads']} operations that could be run, names among them, {interval(each['forced'])} are "
            f"true when attention is forced to the source, and {interval(each['natural'])} as the model attends."
        )
    if found and found["forced"]["heads"]["n"]:
        forced = found["forced"]
        text.append(
            f"{forced['heads']['n']} heads do one of the {forced['operations']} known operations that were run "
            f"(attention forced to the source): a share of {interval(forced['heads'])} is said to do one that it does. "
            f"Of all {forced['cases']['n']} cases of a head and an operation that it does, {interval(forced['cases'])} "
            "are said. Operations that no head of the run is named by are not run, so this is kind to the run."
        )
    return text


def read_null_heads(result: Row) -> list[str]:
    """Sentences on the names of heads that do nothing."""
    text = []
    for name, said in (("real", "Of the model's own heads"), ("null", "Of as many null heads")):
        rows = [one for one in result["rates"] if one["set"] == name]
        heads, named, supported = (sum(one[what] for one in rows) for what in ("heads", "named", "supported"))
        text.append(
            f"{said} the {escaped(result['describer'])} describer names {named} of {heads} "
            f"({named / max(1, heads):.1%}), and the test supports {supported} of these names."
        )
    return text


def read_parts(result: Row) -> list[str]:
    """Sentences on parts taken out of heads."""
    lost, n = result["lost"], len({(one["layer"], one["head"]) for one in result["operations"]})
    if not lost:
        return [f"No head of run {result['run']} has two operations in different parts with enough tested words."]
    told = {"own": "its own part", "other": "the part of the head's other operation", "random": "random directions"}
    told["noise"] = "its own part, put in along random directions instead"
    parts = [f"{interval(lost[kind])} without {words}" for kind, words in told.items()]
    return [
        f"In {n} head{'s' * (n > 1)} of run {result['run']} with two operations in different parts, targets of an "
        f"operation rise by so many standard deviations less: {', '.join(parts)} ({result['directions']} a part)."
    ]


def _judged(verdicts: Sequence[Row]) -> list[str]:
    """Whether the test from weights is an honest judge."""
    known = {one["verdict"]: one for one in verdicts if one["heads"]}
    parts = [
        f"{interval(known[name]['forced'])} of the {known[name]['heads']} that it calls {name}"
        for name in ("supported", "weak", "contradicted")
        if name in known
    ]
    return [f"Names by what the test from weights said, attention forced: true are {', '.join(parts)}."]


def read_final_logits(result: Row) -> list[str]:
    """Sentences on heads that were put into the running model."""
    rows, n = result["relations"], result["heads_a_choice"]
    if not rows:
        return ["No operation could be put into the model."]
    prompts = "; ".join(f"“{one}”" for one in result["prompts"])
    means = [
        f"{name} {number(one['z']['value'])} standard deviations and {one['hit']['value']:.1%} of hits"
        for name, one in result["means"].items()
    ]
    text = [
        f"For {len(rows)} operations, what each of {n} heads a choice writes for a source was added to the attention "
        f"of its layer at the end of a neutral prompt ({prompts}), and the model's own final logits were compared with "
        "those of the prompt alone. One target a pair counts, the first that is accepted.",
        f"Above targets of other sources, means over operations, pairs and heads: {'; '.join(means)}.",
    ]
    text += [_apart(one) for one in result["differences"]]
    r = ", ".join(f"{number(one['value'])} ({one['setting']})" for one in result["r"])
    return [*text, f"Over all chosen heads of an operation, φ goes with the share of hits with mean r = {r}."]


def _apart(one: Row) -> str:
    hit = one["hit"]
    said = "more" if hit["low"] > 0 else "less" if hit["high"] < 0 else "neither clearly more nor less"
    return (
        f"Heads chosen by {one['of']} move the target {said} than those chosen {_how(one['less'])}: "
        f"{hit['value']:+.3f} [{hit['low']:+.3f}, {hit['high']:+.3f}] hits above shuffled, paired by operation."
    )


def _how(choice: str) -> str:
    return "at random" if choice == "random" else f"by {choice}"


def read_cost(result: Row) -> str:
    """Time and memory of a run."""
    cost = result["cost"]
    seconds, busy = cost["seconds"], cost["processor_seconds"]
    stages = "; ".join(f"{stage} {seconds[stage]:.0f} s ({busy[stage]:.0f} s of processor)" for stage in seconds)
    memory = f"peak memory {cost['peak_memory_mib']} MiB"
    if cost["peak_gpu_memory_mib"]:
        memory += f", on the GPU {cost['peak_gpu_memory_mib']} MiB"
    return f"Cost on {cost['device']}, {cost['threads']} threads: {stages or 'all read from the folder'}; {memory}."


def _listed(items: Iterable[str]) -> str:
    return ", ".join(map(escaped, items))
