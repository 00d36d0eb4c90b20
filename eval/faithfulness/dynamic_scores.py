"""Dynamic relation scores phi* of all heads: does the head's output, projected with U, hold the target?

phi*_R(h) = share of prompts (pairs times templates) with t among the k largest entries of z_h W_O[h] U, z_h taken at
the last position; suppression is the same on the k smallest (docs/method.md, "The checks against the running model").
The paper's way, one pass and one projection of V entries per head and prompt, costs L H passes a prompt. Here one pass
of a batch gives z of all heads, and ranks are counted by the engine's own scan (`maps_engine.ov.pair_scores`), which is
exact, works on d_h columns and drops rows early.

Two projections: "plain" is the paper's, U as it is; "folded" goes through the gains of the norms that stand between
the head and the logits (post-attention norm where there is one, final norm), as the model itself does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from eval.faithfulness.running.pair_choice import Source, SourcePairs
from eval.faithfulness.running.running_model import HeadStates, RunningModel
from eval.faithfulness.running.templates import Prompt, PromptMaker
from maps_engine.model import Checkpoint
from maps_engine.ov.circuit import OVCircuit, UnembeddingTable
from maps_engine.ov.folding import HeadMatrices
from maps_engine.ov.pair_scores import PairScores, PairSet, score_pairs
from maps_engine.ov.salience import strongest_targets
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings

Projection = Literal["plain", "folded"]


@dataclass(frozen=True)
class DynamicScores:
    """phi* and its suppression, (L, H) each, without and with context."""

    without_context: PairScores
    with_context: PairScores | None  # of the plain projection only: the folded one is there to compare settings
    prompts: int


@dataclass(frozen=True)
class RecordedCircuit(OVCircuit):
    """A layer's heads reading what a run recorded: row i of `recorded` in place of x_i W_V."""

    recorded: Tensor  # (N, K or H, d_h)

    def values(self, ids: Tensor | slice) -> tuple[Tensor, Tensor]:
        a = self.recorded[ids]
        return a, a.new_zeros(len(a))

    def exact_values(self, ids: Tensor) -> Tensor:
        return self.recorded[ids].cpu().double()


class Projector:
    """Projects recorded head states with U and counts ranks. `unembedding`: a plain U that is held already."""

    def __init__(
        self, checkpoint: Checkpoint, projection: Projection, *, unembedding: UnembeddingTable | None = None
    ) -> None:
        # the source representation of these settings is not used: what heads read was recorded
        self._engine = SourceEngine(checkpoint, EngineSettings("embedding", fold_norms=projection == "folded"))
        if unembedding is not None and projection == "plain":
            self._engine.unembedding = unembedding
        self._engine.unembedding.hold()
        self._outputs: dict[int, Tensor] = {}

    def score(self, recorded: Tensor, pair_sets: Sequence[PairSet]) -> list[PairScores]:
        """`recorded` (L, N, G, d_h), G the number of value heads or of query heads; sources are its rows."""
        circuits = (self._circuit(layer, recorded[layer]) for layer in range(len(recorded)))
        return score_pairs(circuits, pair_sets)

    def strongest(self, recorded: Tensor, rows: Sequence[int], k: int) -> Tensor:
        """(L, H, n, k) of int32: the ids of the `k` most promoted targets of `rows` of what was recorded."""
        chosen = torch.tensor(rows, device=recorded.device)
        circuits = (self._circuit(layer, recorded[layer]) for layer in range(len(recorded)))
        found = [strongest_targets(circuit, chosen, k=k) for circuit in circuits]
        return torch.stack(found).to(device="cpu", dtype=torch.int32)

    def _circuit(self, layer: int, recorded: Tensor) -> RecordedCircuit:
        weights = self._engine.checkpoint.weights
        if layer not in self._outputs:
            self._outputs[layer] = self._engine.folding.heads(weights, layer).output
        output = self._outputs[layer]
        # no W_V: z and v were recorded behind it
        readers = output.new_empty(recorded.shape[1], 0, output.shape[1])
        heads = HeadMatrices(value=readers, value_bias=None, output=output)
        return RecordedCircuit(layer, heads, self._engine.sources, self._engine.unembedding, recorded.to(output))


def record(
    model: RunningModel,
    maker: PromptMaker,
    sources: Sequence[Source],
    templates: Sequence[str],
    *,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> HeadStates:
    """States of all prompts, float32 on the model's device; row t * len(sources) + i is source i in template t.

    progress is told how many prompts have run since it was last called. Raises ValueError without prompts.
    """
    shape = model.shape
    prompts = [maker.make(template, source) for template in templates for source in sources]
    mixed: Tensor | None = None
    values: Tensor | None = None
    for rows in batches(prompts, per_template=len(sources), size=batch):
        ids = torch.tensor([prompts[row].ids for row in rows])
        states = model.head_states(ids, prompts[rows[0]].source)
        if mixed is None or values is None:
            n, d_h, new = len(prompts), shape.d_head, states.mixed.new_empty
            mixed = new(shape.n_layers, n, shape.n_heads, d_h)
            values = new(shape.n_layers, n, shape.n_value_heads, d_h)
        mixed[:, rows], values[:, rows] = states.mixed, states.values
        if progress is not None:
            progress(len(rows))
    if mixed is None or values is None:
        raise ValueError("no prompts were given")
    return HeadStates(mixed, values)


def batches(prompts: Sequence[Prompt], *, per_template: int, size: int) -> list[list[int]]:
    """Rows that run together: one template (so that the beginning is shared) and one length (so nothing is padded)."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault((row // per_template, len(prompt.ids), prompt.source), []).append(row)
    return [rows[i : i + size] for rows in groups.values() for i in range(0, len(rows), size)]


def dynamic_scores(
    states: HeadStates,
    sources: Sequence[Source],
    relations: Sequence[SourcePairs],
    projectors: Mapping[Projection, Projector],
) -> list[dict[Projection, DynamicScores]]:
    """phi* of every relation, in order, by projection; `states` are those that `record` made of `sources`."""
    n_prompts = states.mixed.shape[1]
    place = {source: i for i, source in enumerate(sources)}
    sets = [rows_of(relation, place, n_prompts // len(sources)) for relation in relations]
    found: list[dict[Projection, DynamicScores]] = [{} for _ in relations]
    for name, projector in projectors.items():
        without = projector.score(states.values, sets)
        within = projector.score(states.mixed, sets) if name == "plain" else [None] * len(sets)
        for i, pair_set in enumerate(sets):
            found[i][name] = DynamicScores(without[i], within[i], len(pair_set.sources))
    return found


def rows_of(relation: SourcePairs, place: Mapping[Source, int], n_templates: int) -> PairSet:
    """The pairs on the rows of `record`: each source, at its `place`, once a template."""
    rows = [place[source] for source in relation.sources]
    every = tuple(template * len(place) + row for template in range(n_templates) for row in rows)
    return PairSet(every, relation.targets * n_templates, relation.k)
