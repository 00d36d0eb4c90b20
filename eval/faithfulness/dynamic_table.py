"""Dynamic scores of many operations; resumable, one file for each operation, written when its group has run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from eval.faithfulness.bench import Bench
from eval.faithfulness.dynamic_scores import DynamicScores, Projection, dynamic_scores, record
from eval.faithfulness.running.pair_choice import ChosenPairs, NamedPairs, Source, SourcePairs, in_groups
from eval.faithfulness.running.running_model import HeadStates
from eval.faithfulness.running.templates import template_hash
from eval.results_folder import Identity
from maps_engine.ov.pair_scores import PairScores

DynamicTable = dict[str, dict[Projection, DynamicScores]]  # by operation
Measure = Callable[[HeadStates, Sequence[Source], Sequence[SourcePairs]], Sequence[dict[str, Any]]]
"""Recorded states of all sources, and what is to be measured on them, to plain JSON values for each."""
GROUP_BYTES = 512 * 2**20  # of recorded states held at a time
KINDS = ("dynamic", "multi-token")


def dynamic_table(bench: Bench, chosen: Sequence[ChosenPairs], *, kind: str = KINDS[0]) -> DynamicTable:
    """phi* of `chosen` by name: what the folder holds is read, the rest is run and stored group by group.

    kind: the subfolder of results, one of KINDS. Raises MixedResults when the folder holds results of other settings.
    """

    def measure(
        states: HeadStates, sources: Sequence[Source], relations: Sequence[SourcePairs]
    ) -> list[dict[str, Any]]:
        return [to_json(one) for one in dynamic_scores(states, sources, relations, bench.projectors)]

    _refuse_other_templates(bench)
    stored = measured(bench, chosen, measure, kind=kind)
    return {name: from_json(one) for name, one in stored.items()}


def measured(bench: Bench, chosen: Sequence[NamedPairs], measure: Measure, *, kind: str) -> dict[str, dict[str, Any]]:
    """What `measure` makes of `chosen`, by name, as it is stored: a resumed run sees the same to the last digit.

    What the folder holds is read, the rest is run and stored group by group. Raises MixedResults.
    """
    identities = {one.name: _identity(bench, one, kind) for one in chosen}
    found = {}
    for one in chosen:
        stored = bench.folder.read(f"{kind}/{one.name}", identities[one.name])
        if stored is not None:
            found[one.name] = stored
    missing = [one for one in chosen if one.name not in found]
    groups = in_groups(missing, max_sources=_sources_at_a_time(bench, len(bench.templates)))
    total = sum(len({s for one in group for s in one.pairs.sources}) for group in groups) * len(bench.templates)
    done = 0
    for group in groups:
        values, n_prompts = _run_group(bench, group, measure, done, total)
        done += n_prompts
        for one, value in zip(group, values, strict=True):
            bench.folder.write(f"{kind}/{one.name}", identities[one.name], value)
            found[one.name] = value
    return {one.name: found[one.name] for one in chosen}


def _refuse_other_templates(bench: Bench) -> None:
    """Raise MixedResults where any operation ran on other prompts, also one that this run has nothing to do with.

    One look a subfolder is enough, since nothing of other templates ever gets there.
    """
    for kind in KINDS:
        for name in bench.folder.names(kind):
            stored = bench.folder.stored(name)
            if stored is not None and isinstance(stored["identity"], dict):
                bench.folder.read(name, {**stored["identity"], "templates": template_hash(bench.templates)})
                break


def _run_group(
    bench: Bench, group: Sequence[NamedPairs], measure: Measure, done: int, total: int
) -> tuple[Sequence[dict[str, Any]], int]:
    sources = list(dict.fromkeys(source for one in group for source in one.pairs.sources))
    count = done

    def tell(n: int) -> None:
        nonlocal count
        count += n
        bench.progress("prompts run", count, total)

    model = bench.model  # opened before the clock starts
    with bench.timed("forward passes"):
        states = record(model, bench.maker, sources, bench.templates, batch=bench.batch, progress=tell)
    with bench.timed("dynamic scores from head outputs"):
        found = measure(states, sources, [one.pairs for one in group])
    return found, len(sources) * len(bench.templates)


def _sources_at_a_time(bench: Bench, n_templates: int) -> int:
    shape = bench.checkpoint.weights.shape
    per_prompt = shape.n_layers * (shape.n_heads + shape.n_value_heads) * shape.d_head * 4
    return max(32, GROUP_BYTES // (per_prompt * n_templates))


def _identity(bench: Bench, one: NamedPairs, kind: str) -> Identity:
    return bench.running_identity(
        kind, templates=template_hash(bench.templates), k=one.pairs.k, pairs=one.pairs.fingerprint
    )


def to_json(scores: dict[Projection, DynamicScores]) -> dict[str, Any]:
    """Plain JSON values; tables are [layer][head]."""
    return {
        name: {
            "prompts": one.prompts,
            "without_context": _sides(one.without_context),
            "with_context": None if one.with_context is None else _sides(one.with_context),
        }
        for name, one in scores.items()
    }


def from_json(stored: dict[str, Any]) -> dict[Projection, DynamicScores]:
    """The inverse of `to_json`. Raises KeyError for anything else."""
    found: dict[Projection, DynamicScores] = {}
    for name in ("plain", "folded"):
        one = stored[name]
        within = one["with_context"]
        found[name] = DynamicScores(
            _scores(one["without_context"]), None if within is None else _scores(within), one["prompts"]
        )
    return found


def _sides(scores: PairScores) -> dict[str, list[list[float]]]:
    return {"promotion": _table(scores.score), "suppression": _table(scores.suppression)}


def _table(values: torch.Tensor) -> list[list[float]]:
    return [[round(x, 6) for x in row] for row in values.tolist()]


def _scores(stored: dict[str, Any]) -> PairScores:
    return PairScores(torch.tensor(stored["promotion"]), torch.tensor(stored["suppression"]))
