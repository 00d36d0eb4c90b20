"""Attention from weights against attention in the running model: table, sentences, and what the figures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.output.markdown import escaped, table
from eval.faithfulness.report.cells import interval, number

Row = Mapping[str, Any]
PUBLISHED: Final = 0.23  # mean rho over keys of a published prediction, on another model and in another basis
SAID: Final = {  # predictions over keys, as tables and figures call them
    "placed": "words and places",
    "content": "words alone",
    "near": "nearer is more",
    "null placed": "null heads, words and places",
    "null content": "null heads, words alone",
}


def attention_table(result: Row) -> str:
    """Readings over heads, their strongest heads, from class to class, and predictions over keys."""
    tables = [_readings_table(result), _strongest_table(result), _classes_table(result), _keys_table(result)]
    return "\n\n".join(one for one in tables if one)


def _readings_table(result: Row) -> str:
    head = ["attention to", "ρ over heads", "null heads: ρ", f"heads above {result['clear']}", "AUC of these"]
    rows = [
        [one["reading"], interval(one["rho"]), interval(one["null"]), str(one["clear"]), interval(one["area"])]
        for one in result["readings"]
    ]
    return table(head, rows)


def _strongest_table(result: Row) -> str:
    rows = [
        [one["reading"], ", ".join(f"{_name(h)} {number(h['real'])} / {number(h['read'])}" for h in one["strongest"])]
        for one in result["readings"]
    ]
    return table(["attention to", "strongest heads: running model / read"], rows, numbers=False)


def _classes_table(result: Row) -> str:
    """Empty where no head is said to attend from class to class, and for results from before this was measured."""
    groups = [one for one in _groups(result) if one["claims"]]
    head = [
        "heads that attend",
        "claims",
        "hold",
        "other heads",
        "nats read",
        "in the running model",
        "other heads",
        "ρ",
    ]
    rows = []
    for one in groups:
        nats = (number(one[name]) for name in ("read", "real", "others"))
        shares = (interval(one[name]) for name in ("held", "others_held"))
        name = "**from class to class**" if one is groups[0] else one["name"]
        rows.append([name, str(one["claims"]), *shares, *nats, interval(one["rho"])])
    return table(head, rows) if rows else ""


def _groups(result: Row) -> Sequence[Row]:
    return result.get("classes", {}).get("groups", ())


def _keys_table(result: Row) -> str:
    head = ["ρ over keys, mean over heads", "queries (null heads)", *SAID.values()]
    rows = []
    for one in result["keys"]:
        name = "**all texts**" if one is result["keys"][0] else escaped(one["text"])
        queries = f"{one['queries']} ({one.get('null_queries', '–')})"
        rows.append([name, queries, *(interval(one[what]) for what in SAID)])
    return table(head, rows)


def _name(head: Row) -> str:
    return f"{head['layer']}.{head['head']}"


def read_attention(result: Row) -> list[str]:
    """Sentences on the table."""
    texts = ", ".join(f"{one['pieces']} of {escaped(one['name'])}" for one in result["texts"])
    return [
        f"Attention of {result['heads']} heads was measured in pieces of {result['length']} tokens ({texts}), and in "
        "texts of random tokens that repeat. What is held against it was read in other, made-up texts, in which words "
        "see the one before them in every layer; those that repeat are seen whole, so that `duplicate` and `induction` "
        "are the model's own on other random words.",
        *(_reading(one, result["clear"]) for one in result["readings"]),
        *_classes(result),
        *_keys(result),
    ]


def _reading(one: Row, clear: float) -> str:
    how, area, n = one["reading"], one["area"]["value"], one["clear"]
    text = f"Attention to {_TOLD[how]}: over heads, ρ {interval(one['rho'])}; null heads {interval(one['null'])}"
    if area is None:
        return f"{text}. Heads above {clear}: {n}."
    mean = ", on average" if n > 1 else ""
    return f"{text}. Heads above {clear}: {n}, read higher than {area:.1%} of the others{mean}."


_TOLD: Final = {
    "previous": "the token before",
    "self": "the token itself",
    "first": "the first token",
    "duplicate": "the same token, read before",
    "induction": "what followed the same token before",
}


def _classes(result: Row) -> list[str]:
    whole = next((one for one in _groups(result) if one["claims"]), None)
    if whole is None:
        return []
    return [
        f"Heads are said {whole['claims']} times to attend to a class of words, from words of a class or from anywhere "
        f"({whole['pairs']} pairs of classes). Words of both were put into texts of random words. A claim holds "
        "where the head attends more to a word of the second class than to an ordinary word in its place, and that by "
        "more from a word of the first class than from an ordinary one (95 % interval of the mean over texts above 0). "
        f"{interval(whole['held'])} hold; of the other heads of the same layers, {interval(whole['others_held'])} do "
        f"the same. The mean over claims is {number(whole['real'])} nats, where {number(whole['read'])} are read; that "
        f"of the other heads is {number(whole['others'])}.",
    ]


def class_points(result: Row) -> tuple[list[float], list[float]]:
    """Of each claim from class to class the nats read, and those in the running model."""
    rows = result.get("classes", {}).get("by_claim", [])
    return [one["read"] for one in rows], [one["mean"] for one in rows]


def _keys(result: Row) -> list[str]:
    whole = result["keys"][0]
    text = (
        f"Within a head, the keys of {whole['queries']} queries are put in order with a mean ρ of "
        f"{interval(whole['placed'])} by words and places together (the same texts, each word seeing the one before it "
        f"in every layer), and {interval(whole['content'])} by words alone, without places; to call the nearer key the "
        f"stronger gives {interval(whole['near'])}."
    )
    null = (
        f"Null heads give {interval(whole['null placed'])} and {interval(whole['null content'])}. A published figure "
        f"for words alone is {PUBLISHED}, of another model and in another basis."
    )
    return [text, null]


def reading_panels(result: Row) -> dict[str, tuple[list[float], list[float], float | None]]:
    """By reading: what is read of every head, its real attention, and rho."""
    heads = result["by_head"]
    return {
        one["reading"]: (
            [head["read"][one["reading"]] for head in heads],
            [head["real"][one["reading"]] for head in heads],
            one["rho"]["value"],
        )
        for one in result["readings"]
    }


def keys_by_layer(result: Row) -> list[Row]:
    """Rho over keys, the mean over the heads of each layer, of the predictions that a figure has room for."""
    layers: dict[int, list[Row]] = {}
    for head in result["by_head"]:
        layers.setdefault(head["layer"], []).append(head["keys"])
    return [{"setting": SAID[what], "by_layer": [_mean(one, what) for one in layers.values()]} for what in _DRAWN]


_DRAWN: Final = ("placed", "content", "near", "null placed")


def _mean(heads: Sequence[Row], what: str) -> float:
    return float(sum(one[what] for one in heads) / len(heads))
