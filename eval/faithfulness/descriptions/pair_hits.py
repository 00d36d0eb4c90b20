"""Which pairs of a claim each head of the running model hits, pair by pair and in how many prompts.

Heads with one name share most of their pairs, but each leaves other sources out. So the pairs of all of them are run
once, and hits are kept for each pair, as `agent.checks.pair_scorer` does for scores from weights. Behind the pairs
stand the same sources with each other's targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final

import torch
from torch import Tensor

from agent.checks.controls import mixed_pairs
from agent.checks.pair_scorer import ENTRIES_AT_ONCE, WIDE
from agent.runs.head_rows import folded_name
from eval.faithfulness.bench import Bench
from eval.faithfulness.descriptions.named_heads import NamedHead
from eval.faithfulness.dynamic_scores import Projection, Projector, rows_of
from eval.faithfulness.dynamic_table import measured
from eval.faithfulness.running.pair_choice import Source, SourcePairs
from eval.faithfulness.running.running_model import HeadStates
from maps_engine.ov.pair_scores import PairSet, in_parts

ClaimKey = tuple[str, int, bool]  # name as names are compared, k, and whether a relation's pairs show it
KINDS: Final[dict[Projection, str]] = {"folded": "descriptions-folded", "plain": "descriptions-plain"}  # subfolders


@dataclass(frozen=True)
class ClaimPairs:
    """The pairs of all heads with one name and k; `mixed` are the same sources with others' targets, or none."""

    real: PairSet
    mixed: PairSet

    @classmethod
    def of(cls, sets: Sequence[PairSet]) -> ClaimPairs:
        """The union of `sets`, which have one k and are not empty."""
        union = dict.fromkeys(pair for one in sets for pair in zip(one.sources, one.targets, strict=True))
        others = tuple(dict.fromkeys(i for one in sets for i in one.others))
        real = PairSet(tuple(s for s, _ in union), tuple(t for _, t in union), sets[0].k, others)
        return cls(real, mixed_pairs(real))

    @cached_property
    def pairs(self) -> SourcePairs:
        """All that is run: the real pairs, then the mixed ones."""
        sources = tuple((source,) for source in (*self.real.sources, *self.mixed.sources))
        return SourcePairs(sources, (*self.real.targets, *self.mixed.targets), self.real.k)

    @property
    def name(self) -> str:
        """By content, so that runs with other pairs for the same operation lie side by side."""
        return self.pairs.fingerprint


@dataclass(frozen=True)
class ClaimHits:
    """In how many of `prompts` each pair of `ClaimPairs.pairs` hits: (pairs, L, H) each."""

    prompts: int  # of one pair
    forced: Tensor  # attention on the source: "without context"
    natural: Tensor  # attention as the model computes it: "with context"


def claims_of(heads: Sequence[NamedHead]) -> dict[ClaimKey, ClaimPairs]:
    """The claims of heads with pairs, by `claim_key`."""
    sets: dict[ClaimKey, list[PairSet]] = {}
    for one in heads:
        if one.pairs is not None:
            sets.setdefault(claim_key(one, one.pairs), []).append(one.pairs)
    return {key: ClaimPairs.of(found) for key, found in sets.items()}


def claim_key(one: NamedHead, pairs: PairSet) -> ClaimKey:
    """What heads share whose pairs are run together."""
    return folded_name(one.operation), pairs.k, one.by_pairs


def claim_hits(bench: Bench, claims: Sequence[ClaimPairs], projection: Projection) -> list[ClaimHits]:
    """Hits of every claim on all heads: read from the folder where it holds them, else run. Raises MixedResults."""

    @cache
    def projector() -> Projector:  # holds U, so only where something is run
        return Projector(bench.checkpoint, projection)

    def measure(
        states: HeadStates, sources: Sequence[Source], relations: Sequence[SourcePairs]
    ) -> list[dict[str, Any]]:
        return hits_of(states, sources, relations, projector())

    stored = measured(bench, list({one.name: one for one in claims}.values()), measure, kind=KINDS[projection])
    shape = bench.checkpoint.weights.shape
    return [_from_json(stored[one.name], shape.n_layers, shape.n_heads) for one in claims]


def hits_of(
    states: HeadStates, sources: Sequence[Source], relations: Sequence[SourcePairs], projector: Projector
) -> list[dict[str, Any]]:
    """`{"prompts", "without_context", "with_context"}` of each relation; a pair is a text of one digit a head."""
    n_templates = states.mixed.shape[1] // len(sources)
    place = {source: i for i, source in enumerate(sources)}
    sets = [rows_of(one, place, n_templates) for relation in relations for one in _each_pair(relation)]
    contexts = {"without_context": states.values, "with_context": states.mixed}
    digits = {name: iter(_digits(projector, recorded, sets, n_templates)) for name, recorded in contexts.items()}
    return [
        {"prompts": n_templates} | {name: [next(found) for _ in one.sources] for name, found in digits.items()}
        for one in relations
    ]


def _each_pair(relation: SourcePairs) -> Iterator[SourcePairs]:
    for source, targets in zip(relation.sources, relation.targets, strict=True):
        yield SourcePairs((source,), (targets,), relation.k)


def _digits(projector: Projector, recorded: Tensor, sets: Sequence[PairSet], n_templates: int) -> list[str]:
    """One text a set: the number of its prompts that hit, head after head and layer after layer."""
    found = [""] * len(sets)
    wide = [i for i, one in enumerate(sets) if len(one.targets[0]) >= WIDE]
    narrow = [i for i, one in enumerate(sets) if len(one.targets[0]) < WIDE]
    for part in in_parts(narrow, lambda i: sum(map(len, sets[i].targets)), at_most=ENTRIES_AT_ONCE):
        for i, one in zip(part, projector.score(recorded, [sets[i] for i in part]), strict=True):
            found[i] = _digit_a_head((one.score * n_templates).round())
    for k in {sets[i].k for i in wide}:
        own = [i for i in wide if sets[i].k == k]
        for i, counts in zip(own, _wide_counts(projector, recorded, [sets[i] for i in own], k), strict=True):
            found[i] = _digit_a_head(counts)
    return found


def _wide_counts(projector: Projector, recorded: Tensor, sets: Sequence[PairSet], k: int) -> Iterator[Tensor]:
    """(L, H) prompts that hit, of each set of one pair: by the k strongest targets of every prompt."""
    rows = sorted({row for one in sets for row in one.sources})
    place = {row: i for i, row in enumerate(rows)}
    strongest = projector.strongest(recorded, rows, k)
    for one in sets:
        own = strongest[:, :, [place[row] for row in one.sources]]
        yield torch.isin(own, torch.tensor(one.targets[0])).any(dim=-1).sum(dim=-1)


def _digit_a_head(counts: Tensor) -> str:
    return "".join(map(str, counts.int().flatten().tolist()))


def _from_json(stored: dict[str, Any], n_layers: int, n_heads: int) -> ClaimHits:
    def counts(texts: Sequence[str]) -> Tensor:
        return torch.tensor([list(map(int, one)) for one in texts]).view(-1, n_layers, n_heads)

    return ClaimHits(stored["prompts"], counts(stored["without_context"]), counts(stored["with_context"]))
