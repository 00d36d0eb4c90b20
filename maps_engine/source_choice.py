"""`--source auto`: which source representation reads a head best, decided from weights alone.

Criterion. A representation is right for a head when the head's map does something recognisable through it. So every
candidate is tried with the same probes: a few dozen one-token pairs of each of some twenty operations of the catalogue.
A head's evidence is its best probe score, promoting or suppressing, less its score on the same words shuffled: a head
that writes capitals whatever it reads is no evidence that it reads countries. Under a wrong representation what is
left is noise, and 0.15 on 24 pairs is rare enough over all probes.

The choice is per head, since heads of one model differ: in SmolLM2-135M the strongest heads of layers 23 to 28 read
only through `first-mlp`, those of layer 29 only through `embedding`. Of the candidates that read at least half as well
as the best, the first in order of preference is taken, not the one with the highest score: on that model `embedding`
makes more heads recognisable, but scores through `first-mlp` agree far better with the running model (mean r over 141
operations 0.70 against 0.24, by `headscribe check compare-settings`), as they should: heads after block 0 read tokens
that it has enriched. A head without evidence gets the first candidate under which a fair share of the model's heads
read (READABLE of the best candidate's share): `first-mlp` unless it reads next to nothing, as with post-norms; a model
without any such head, `embedding`. See docs/method.md, "Source representations".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.errors import CacheUnusable, UnsupportedModel
from maps_engine.folders import cache_folder, write_atomically
from maps_engine.model import Checkpoint, Vocabulary
from maps_engine.ov.pair_scores import PairSet
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.relations.significance import shuffled
from maps_engine.relations.thresholds import DEFAULT_K, TAU
from maps_engine.results import EngineSettings, SourceChoice, SourceEvidence

CANDIDATES = ("first-mlp", "embedding", "first-block")  # in order of preference: the paper's, the plainest, the fullest
PAIRS_PER_PROBE = 24
COMPARABLE = 0.5  # of a head's best score, from which on the preferred candidate is taken
READABLE = 0.2  # of the best candidate's share of heads that read
NULL_ROUNDS = 3
SAMPLED_LAYERS = 16
PROBES = (
    "name-copying",
    "lower-to-capital",
    "country-to-capital",
    "country-to-language",
    "country-to-nationality",
    "nationality-to-country",
    "city-to-state",
    "noun-to-pronoun",
    "word-to-first-letter",
    "word-to-antonym",
    "adjective-to-comparative",
    "adjective-to-superlative",
    "singular-to-plural",
    "plural-to-singular",
    "verb-to-past-tense",
    "verb-to-gerund",
    "gerund-to-verb",
    "copying",
    "year-to-following",
    "english-to-french",
)


@dataclass(frozen=True)
class Probes:
    """The operations every candidate is tried with."""

    names: tuple[str, ...]
    pair_sets: tuple[PairSet, ...]


@dataclass(frozen=True)
class _Best:
    """Every head's best probe score through one source, and the index of that probe, each (H',)."""

    score: Tensor
    probe: Tensor


def probes_for(vocabulary: Vocabulary, wanted: Sequence[str] = PROBES) -> Probes:
    """Probes with enough one-token pairs in this vocabulary, evenly spread over each relation's pairs."""
    names, sets = [], []
    for relation in load_relations(wanted):
        encoded = encode_relation(relation, vocabulary)
        n = len(encoded.source_ids)
        if n < PAIRS_PER_PROBE:
            continue
        spread = [i * n // PAIRS_PER_PROBE for i in range(PAIRS_PER_PROBE)]
        sources = tuple(encoded.source_ids[i] for i in spread)
        names.append(relation.name)
        sets.append(PairSet(sources, tuple(encoded.target_ids[i] for i in spread), k=DEFAULT_K))
    return Probes(tuple(names), tuple(sets))


class SourceChooser:
    """Chooses among the candidates that the model's family can compute."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, engine: Callable[[str], SourceEngine]) -> None:
        self.checkpoint, self.settings, self._engine = checkpoint, settings, engine
        self.probes = probes_for(checkpoint.vocabulary)
        self._model_choice: SourceChoice | None = None
        self._measured: dict[tuple[str, int], _Best] = {}  # by source and layer, of all heads
        self.candidates = tuple(name for name in CANDIDATES if self._computable(name))

    def for_heads(self, layer: int, heads: Sequence[int]) -> list[SourceChoice]:
        """The choice for each of `heads` of one layer."""
        best = {name: self._best_of(name, layer, heads) for name in self.candidates}
        return [
            self._choose({name: (one.score[i], one.probe[i]) for name, one in best.items()}) for i in range(len(heads))
        ]

    def for_model(self) -> SourceChoice:
        """The choice for heads without evidence of their own; remembered on disk for this checkpoint."""
        if self._model_choice is None:
            self._model_choice = self._read_cached() or self._measure_model()
        return self._model_choice

    def _computable(self, name: str) -> bool:
        """Whether the family can compute it (a mixture's first MLP cannot be told from one token alone)."""
        try:
            self._engine(name).sources.rows(1, torch.tensor([0], device=self.checkpoint.weights.device))
        except UnsupportedModel:
            return False
        return True

    def _choose(self, scores: dict[str, tuple[Tensor, Tensor]]) -> SourceChoice:
        evidence = [
            SourceEvidence(name, round(float(score), 4), self._probe_name(score, index))
            for name, (score, index) in scores.items()
        ]
        best = max(e.score for e in evidence)
        chosen = _preferred(evidence, COMPARABLE * best)
        if chosen is None or best < TAU:
            return self.for_model()
        return SourceChoice(chosen.source, "head", _ordered(evidence, chosen))

    def _probe_name(self, score: Tensor, index: Tensor) -> str | None:
        return self.probes.names[int(index)] if float(score) > 0 else None

    def _best_of(self, name: str, layer: int, heads: Sequence[int]) -> _Best:
        """Best scores of `heads` of one layer; those of whole layers are kept while the engine is open."""
        known = self._measured.get((name, layer))
        if known is not None:
            chosen = torch.tensor(heads)
            return _Best(known.score[chosen], known.probe[chosen])
        (found,) = self._best_scores(name, [layer], heads)
        if list(heads) == list(range(self.checkpoint.weights.shape.n_heads)):
            self._measured[name, layer] = found
        return found

    def _best_scores(self, name: str, layers: Sequence[int], heads: Sequence[int]) -> list[_Best]:
        """For each of `layers`."""
        if not self.probes.pair_sets:
            zeros = torch.zeros(len(heads))
            return [_Best(zeros, zeros.long()) for _ in layers]
        sets = self.probes.pair_sets
        null = [shuffled(one, rounds=NULL_ROUNDS) for one in sets]
        results = self._engine(name).score_pairs([*sets, *null], layers=layers, heads=heads)
        above = [
            torch.maximum(real.score - chance.score, real.suppression - chance.suppression)
            for real, chance in zip(results[: len(sets)], results[len(sets) :], strict=True)
        ]
        found = torch.stack(above).clamp_min(0).max(dim=0)
        return [_Best(*one) for one in zip(found.values, found.indices, strict=True)]

    def _measure_model(self) -> SourceChoice:
        shape = self.checkpoint.weights.shape
        layers, heads = sampled_layers(shape.n_layers), range(shape.n_heads)
        evidence = []
        for name in self.candidates:
            found = self._best_scores(name, layers, heads)
            self._measured |= {(name, layer): one for layer, one in zip(layers, found, strict=True)}
            reads = torch.stack([one.score for one in found]) >= TAU
            evidence.append(SourceEvidence(name, round(float(reads.float().mean()), 4)))
        best_share = max(e.score for e in evidence)
        chosen = _preferred(evidence, READABLE * best_share)
        if chosen is None or best_share == 0:
            return SourceChoice("embedding", "default", tuple(evidence))
        choice = SourceChoice(chosen.source, "model", _ordered(evidence, chosen))
        self._write_cached(choice)
        return choice

    @property
    def _cache_name(self) -> str:
        folded = f"{int(self.settings.fold_norms)}{int(self.settings.fold_biases)}"
        folded += "-centred" if self.settings.centred else ""
        return f"{self.checkpoint.fingerprint}-{folded}-{len(self.probes.names)}-{READABLE}-{NULL_ROUNDS}.json"

    def _read_cached(self) -> SourceChoice | None:
        path = cache_folder() / "auto_source" / self._cache_name
        try:
            stored = json.loads(path.read_text())
            evidence = tuple(SourceEvidence(**one) for one in stored["evidence"])
            if stored["source"] not in self.candidates:
                return None
            return SourceChoice(stored["source"], "model", evidence)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # never measured, or half-written: measure

    def _write_cached(self, choice: SourceChoice) -> None:
        path = cache_folder() / "auto_source" / self._cache_name
        evidence = [{"source": e.source, "score": e.score, "operation": e.operation} for e in choice.evidence]
        with suppress(CacheUnusable):  # costs a second measurement, nothing else
            write_atomically(path, json.dumps({"source": choice.source, "evidence": evidence}).encode())


def sampled_layers(n_layers: int) -> list[int]:
    """At most SAMPLED_LAYERS layers, evenly spread, layer 0 left out (it reads E under every candidate)."""
    layers = list(range(1, n_layers)) or [0]
    if len(layers) <= SAMPLED_LAYERS:
        return layers
    return [layers[round(i * (len(layers) - 1) / (SAMPLED_LAYERS - 1))] for i in range(SAMPLED_LAYERS)]


def _preferred(evidence: Sequence[SourceEvidence], at_least: float) -> SourceEvidence | None:
    """The first in order of preference that reaches `at_least`."""
    return next((e for e in evidence if e.score >= at_least), None)


def _ordered(evidence: Sequence[SourceEvidence], chosen: SourceEvidence) -> tuple[SourceEvidence, ...]:
    rest = sorted((e for e in evidence if e is not chosen), key=lambda e: -e.score)
    return (chosen, *rest)
