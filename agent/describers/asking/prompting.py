"""Evidence to prompts: the same for every language model.

Tokens are data: quoted as JSON strings with control, direction and zero-width characters escaped, between lines
whose mark is a hash of the rows themselves, so that no token can close the block.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Final

from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence, IntruderTest, Retrieved
from agent.results.reports import Attempt, Trial
from maps_engine.results import MappingRow
from prompts import load_prompts

TEMPLATES: Final = ("describe", "revise", "propose_pairs", "system")
LONGEST_TOKEN: Final = 120
LONGEST_SENTENCE: Final = 3000  # what a model wrote is shown to a model in full; this only keeps prompts finite
SHOWN_TRIED: Final = 8  # hits, and misses, of a trial


def describe_prompt(evidence: Evidence, facts: Sequence[str] = ()) -> str:
    """The filled prompt for one head; `facts` are sentences on what was counted (`agent.describers.asking.facts`)."""
    rows = _lines(evidence.rows)
    return filled(
        "describe",
        n_rows=str(len(evidence.rows)),
        mark=marked(rows),
        rows=rows,
        retrieved=retrieved_line(evidence.retrieved),
        evidence=_intruder_line(evidence.intruder),
        facts=_fact_list(facts),
    )


def revise_prompt(evidence: Evidence, attempts: Sequence[Attempt], facts: Sequence[str] = ()) -> str:
    """The last of `attempts` with its trial, and what was tried before; `facts` as in `describe_prompt`."""
    last = attempts[-1]
    if last.trial is None or last.trial.pairs is None:
        raise ValueError("nothing was tried: there is nothing to revise by")
    rows, tried = _lines(evidence.rows), _trial_lines(last.trial)
    return filled(
        "revise",
        n_rows=str(len(evidence.rows)),
        mark=marked(rows + tried),
        rows=rows,
        trial=tried,
        operation=as_sentence(last.description.operation),
        observed_pattern=as_sentence(last.description.observed_pattern),
        outcome=_outcome(last.trial),
        earlier=_earlier(attempts[:-1]),
        facts=_fact_list(facts),
    )


def choose_prompt(evidence: Evidence, counted: Sequence[HeadDescription], facts: Sequence[str]) -> str:
    """A question for the best of some counted descriptions, which are numbered from 1."""
    rows = _lines(evidence.rows)
    numbered = [
        f"{i}. {as_sentence(one.operation)}: {as_sentence(one.observed_pattern)}" for i, one in enumerate(counted, 1)
    ]
    return filled(
        "choose",
        n_rows=str(len(evidence.rows)),
        mark=marked(rows),
        rows=rows,
        facts=_fact_list(facts),
        candidates="\n".join(numbered),
    )


def pairs_prompt(description: HeadDescription, *, n: int, excluded: Sequence[str]) -> str:
    """A question for `n` new pairs that the description predicts."""
    return filled(
        "propose_pairs",
        operation=as_sentence(description.operation),
        observed_pattern=as_sentence(description.observed_pattern),
        n_pairs=str(n),
        excluded=", ".join(map(as_data, excluded)) or "none",
    )


def as_data(text: str, longest: int = LONGEST_TOKEN) -> str:
    """The text as a JSON string in which nothing invisible is left, cut after `longest` characters."""
    cut = text if len(text) <= longest else text[:longest] + "…"
    quoted = json.dumps(cut, ensure_ascii=False)
    return "".join(_escaped(c) if _is_hidden(c) else c for c in quoted)


def as_sentence(text: str) -> str:
    """What a describer wrote, as data."""
    return as_data(text, LONGEST_SENTENCE)


def row_line(row: MappingRow) -> str:
    """`"source" -> "target", …`."""
    return f"{as_data(row.token)} -> {', '.join(as_data(t.token) for t in row.targets)}"


def _fact_list(facts: Sequence[str]) -> str:
    return "\n".join(f"- {fact}" for fact in facts) or "- none"


def filled(name: str, **values: str) -> str:
    return load_prompts().templates[name].fill(**values)


def marked(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]


def _lines(rows: Sequence[MappingRow]) -> str:
    return "\n".join(map(row_line, rows))


def _trial_lines(trial: Trial) -> str:
    hits = [f"hit: {as_data(s)} -> {as_data(t)}" for s, t in trial.hits[:SHOWN_TRIED]]
    misses = [
        f"miss: {as_data(source)} -> {as_data(target)}"
        + (f"; the head promotes {', '.join(map(as_data, instead))}" if instead else "")
        for source, target, instead in trial.misses[:SHOWN_TRIED]
    ]
    return "\n".join([*hits, *misses])


def _outcome(trial: Trial) -> str:
    assert trial.pairs is not None
    tested = trial.pairs
    return (
        f"{trial.verdict}. {len(trial.hits)} of {tested.n_pairs} targets are among the {tested.k} tokens that the head "
        f"promotes most; that is higher than on {tested.percentile:.0f} % of the other heads of the model."
    )


def _earlier(attempts: Sequence[Attempt]) -> str:
    tried = [f"{as_data(one.description.operation)} ({one.trial.verdict})" for one in attempts if one.trial is not None]
    return f"Tried before: {', '.join(tried)}" if tried else ""


def _intruder_line(test: IntruderTest | None) -> str:
    if test is None:
        return ""
    return (
        f"Blind check: rows of this head were told from rows of other heads in {test.found} of {test.n} trials "
        f"({test.chance:.0%} by guessing). Near guessing there is mostly no pattern, but it misses some heads with one."
    )


def retrieved_line(retrieved: Sequence[Retrieved]) -> str:
    return ", ".join(map(_retrieved_part, retrieved)) or "none"


def _retrieved_part(one: Retrieved) -> str:
    shown = "; ".join(f"{as_data(source)} -> {as_data(target)}" for source, target in one.examples[:2])
    return as_data(one.operation) + (f" (for example {shown})" if shown else "")


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}


def _escaped(character: str) -> str:
    """As JSON escapes it: surrogate pairs beyond U+FFFF."""
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"
