"""How many of two and three operations planted in one head are named, each with its own supported test.

    python -m tests.benchmarks.planted_parts

Twelve heads of the built-in model with two operations of different categories, and twelve with three
(`tests.support.planting.plant_together`); the lexical describer reads them as it reads any head. An operation counts as
named where it is among the head's operations (`HeadReport.operations`), with other names also where it is one of the
names that an operation has beside its own, since both say the same of the same words ("nationality to country, also
language to country"). An operation counts only where its own pairs score at least tau on the head. Ten minutes on two
cores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from agent.pipeline.flow import describe_heads
from agent.results.reports import HeadReport
from agent.words.known_pairs import label_of
from eval.statistics.intervals import wilson
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.relations.thresholds import TAU
from tests.support.agent.bulk_runs import lexical_bench
from tests.support.planting import plant_together

TWO = (
    ("country-to-capital", "verb-to-past-tense"),
    ("country-to-nationality", "singular-to-plural"),
    ("adjective-to-comparative", "country-to-language"),
    ("word-to-antonym", "english-to-french"),
    ("abbreviation-to-state", "verb-to-gerund"),
    ("word-to-first-letter", "country-to-currency"),
    ("male-to-female", "number-word-to-next"),
    ("verb-to-third-person", "city-to-country"),
    ("adjective-to-superlative", "profession-to-field"),
    ("noun-to-pronoun", "lower-to-upper"),
    ("adjective-to-adverb", "company-to-industry"),
    ("capital-to-lower", "animal-to-young"),
)
THREE = (
    ("country-to-capital", "verb-to-past-tense", "english-to-french"),
    ("country-to-nationality", "singular-to-plural", "lower-to-upper"),
    ("adjective-to-comparative", "country-to-language", "letter-to-next-letter"),
    ("animal-to-young", "english-to-german", "verb-to-gerund"),
    ("abbreviation-to-state", "adjective-to-adverb", "number-word-to-next"),
    ("male-to-female", "country-to-currency", "word-to-first-letter"),
    ("verb-to-third-person", "city-to-country", "french-to-english"),
    ("adjective-to-superlative", "element-to-symbol", "opening-to-closing-bracket"),
    ("noun-to-pronoun", "company-to-industry", "english-to-italian"),
    ("verb-to-noun", "state-to-abbreviation", "letter-to-other-case"),
    ("plural-to-singular", "language-to-country", "english-to-spanish"),
    ("gerund-to-verb", "food-to-category", "closing-to-opening-bracket"),
)
PLACES = [(2 + 2 * i, (4 * i) % 9) for i in range(12)]
OTHER_NAMES = {  # an operation of form is named as such
    "capital-to-lower": {"copying with case variants", "word to lower case"},
    "lower-to-upper": {"word to capitals", "copying with case variants"},
    "number-word-to-next": {"time word to next"},
}


def measured(planted: Sequence[Sequence[str]]) -> list[tuple[str, float, HeadReport]]:
    """Every planted operation with its score on its head, and the head's report."""
    relations = {one.name: one for one in load_relations()}
    at = dict(zip(PLACES, planted, strict=True))
    checkpoint = open_checkpoint("smollm2-135m", device="cpu")
    checkpoint = plant_together(checkpoint, {place: [relations[name] for name in names] for place, names in at.items()})
    engine = MapsEngine(checkpoint)
    bench = lexical_bench(engine)
    bench.scorer.folder = None
    reports = {(r.mapping.layer, r.mapping.head): r for r in describe_heads(bench, PLACES).reports}
    found = []
    for (layer, head), names in at.items():
        encoded = [encode_relation(relations[name], checkpoint.vocabulary) for name in names]
        sets = [PairSet(e.source_ids, e.target_ids, relations[n].k) for e, n in zip(encoded, names, strict=True)]
        scores = engine.score_pairs(sets, source="residual", layers=[layer])
        found += [(n, float(s.score[0, head]), reports[layer, head]) for n, s in zip(names, scores, strict=True)]
    return found


def is_named(name: str, report: HeadReport) -> bool:
    """Whether the operation is among the head's, under its own name or another of the same meaning."""
    return bool(_labels(name) & {one.operation for one in report.operations})


def is_other_name(name: str, report: HeadReport) -> bool:
    """Whether one of the head's operations has such a name beside its own; a test of its own supports it."""
    return bool(_labels(name) & {other for one in report.operations for other in one.also})


def _labels(name: str) -> set[str]:
    return {label_of(name), *OTHER_NAMES.get(name, ())}


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    out = Console()
    for count, planted in (("two", TWO), ("three", THREE)):
        results = measured(planted)
        table = Table("head", "planted", "score", "named", title=f"{count} operations a head")
        there = []
        for name, score, report in results:
            named, other = is_named(name, report), is_other_name(name, report)
            besides = "; ".join(f"{one.operation} {one.also_said}".strip() for one in report.operations)
            said = "yes" if named else f"{'other name' if other else 'no'}: {besides}"
            table.add_row(f"{report.mapping.layer}.{report.mapping.head}", name, f"{score:.2f}", said)
            there += [(named, named or other)] if score >= TAU else []
        out.print(table)
        for what, k in (("named", sum(one for one, _ in there)), ("with other names", sum(one for _, one in there))):
            rate = wilson(k, len(there))
            out.print(
                f"{count}, {what}: {k} of {len(there)} ({rate.value:.2f}, 95 % {rate.low:.2f} to {rate.high:.2f})"
            )


if __name__ == "__main__":
    main()
