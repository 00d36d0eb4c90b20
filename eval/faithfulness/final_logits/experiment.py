"""Final logits over many operations; resumable, one file for each operation.

A relation score and the readout of head outputs that it is held against share the unembedding, so that their agreement
could flatter both. Here the running model itself says what a head's output is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import Tensor

from eval.faithfulness.bench import Bench
from eval.faithfulness.correlation import PairLimits
from eval.faithfulness.final_logits.asked import PROMPTS, PROMPTS_A_PAIR, ROUNDS, asked_pairs, neutral_prompts
from eval.faithfulness.final_logits.chosen_heads import Choices, choices, refuse_too_many, union
from eval.faithfulness.final_logits.effects import Asked, head_effect, source_values
from eval.faithfulness.final_logits.summary import LogitsTable, operation_row
from eval.faithfulness.running.pair_choice import ChosenPairs, one_token_pairs
from eval.faithfulness.running.templates import template_hash
from eval.faithfulness.static_scores import PAPER, RESIDUAL, StaticSetting, compared_settings, static_scores
from eval.results_folder import Identity
from maps_engine.relations.format import Relation

KIND: Final = "final-logits"
MIN_ASKED: Final = 10  # pairs that an operation needs
HEADS: Final = 5
PUT_IN: Final = "heads put into the model"


@dataclass(frozen=True)
class _Task:
    """One operation, the pairs of it that are asked, phi (L, H) by setting, and the heads chosen by it."""

    operation: ChosenPairs
    asked: Asked
    phi: Mapping[str, Tensor]
    chosen: Choices


def final_logits(bench: Bench, relations: Sequence[Relation], limits: PairLimits, *, heads: int = HEADS) -> LogitsTable:
    """What the `heads` strongest heads by `residual`, by the paper's setting, and random ones do to final logits.

    A mixture of experts has no paper setting and goes without that choice. Raises UserMistake for more heads than the
    model has, UnsupportedModel, MixedResults, and what opening the running model raises.
    """
    shape = bench.checkpoint.weights.shape
    refuse_too_many(heads, shape)
    known = compared_settings(bench)
    settings = [one for one in (RESIDUAL, PAPER) if one in known]
    chosen, few = one_token_pairs(relations, bench.checkpoint.vocabulary, **asdict(limits))
    tasks, skipped = _tasks(bench, chosen, settings, heads)
    counts = [len(union(task.chosen)) for task in tasks]
    rows = [_row(bench, task, settings, sum(counts[:i]), sum(counts)) for i, task in enumerate(tasks)]
    left_out = [*({"name": one.name, "why": one.why} for one in few), *skipped]
    return LogitsTable(heads, shape.n_layers, PROMPTS, tuple(rows), tuple(left_out))


def _tasks(
    bench: Bench, chosen: Sequence[ChosenPairs], settings: Sequence[StaticSetting], heads: int
) -> tuple[list[_Task], list[dict[str, str]]]:
    """The operations that can be asked, and why others cannot."""
    static = {one.name: static_scores(bench, chosen, one, store=f"{KIND}-static") for one in settings}
    prompts = neutral_prompts(bench.maker)
    tasks, skipped = [], []
    for one in chosen:
        asked = Asked(asked_pairs(one.pairs, prompts, bench.checkpoint.vocabulary), prompts, one.pairs.k)
        if len(asked.pairs) < MIN_ASKED:
            why = f"only {len(asked.pairs)} pairs with a target that is wrong for others and a prompt without both"
            skipped.append({"name": one.name, "why": why})
            continue
        phi = {name: table[one.name].score for name, table in static.items()}
        tasks.append(_Task(one, asked, phi, choices(phi, heads, one.name)))
    return tasks, skipped


def _row(bench: Bench, task: _Task, settings: Sequence[StaticSetting], done: int, total: int) -> dict[str, Any]:
    """Read from the folder, or measured and stored; `done` of `total` heads were put in before."""
    name, identity = f"{KIND}/{task.operation.name}", _identity(bench, task, settings)
    stored: dict[str, Any] | None = bench.folder.read(name, identity)
    if stored is None:
        stored = _measured(bench, task, done, total)
        bench.folder.write(name, identity, stored)
    bench.progress(PUT_IN, done + len(union(task.chosen)), total)
    return stored


def _measured(bench: Bench, task: _Task, done: int, total: int) -> dict[str, Any]:
    model, asked = bench.model, task.asked  # opened before the clock starts
    sources = [pair.source for pair in asked.pairs]
    with bench.timed("values of sources"):
        values = source_values(model, bench.checkpoint.vocabulary.start, sources, batch=bench.batch)
    effects = {}
    with bench.timed(PUT_IN):
        for head in union(task.chosen):
            effects[head] = head_effect(model, bench.checkpoint.weights, asked, values, head, batch=bench.batch)
            bench.progress(PUT_IN, done + len(effects), total)
    relation = task.operation.relation
    about = {"name": relation.name, "category": relation.category, "paper": relation.paper}
    return operation_row({**about, "k": asked.k, "pairs": len(asked.pairs)}, task.chosen, task.phi, effects)


def _identity(bench: Bench, task: _Task, settings: Sequence[StaticSetting]) -> Identity:
    return bench.running_identity(
        KIND,
        prompts=template_hash(PROMPTS),
        prompts_a_pair=PROMPTS_A_PAIR,
        rounds=ROUNDS,
        k=task.asked.k,
        pairs=task.operation.fingerprint,
        heads={choice: [list(head) for head in mine] for choice, mine in task.chosen.items()},
        settings={setting.name: setting.to_json() for setting in settings},
    )
