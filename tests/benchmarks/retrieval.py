"""hit@1 and hit@5 of retrieval: our mapping vectors against plain text of the pairs, same pairs, same embedder.

    python -m tests.benchmarks.retrieval [--lists] [--planted] [--heads]

lists: half of an operation's pairs make the stored example, 30 pairs of the other half make the query: sources are
never shared. Noise: that share of rows has only random tokens; every other row gets two random tokens beside its
targets, and half of the rows the source itself, as rows of real heads do.
planted: the second half is planted in a head of the built-in model (`tests.support.planting`), and the query is that
head's 30 most salient rows. heads: heads of the built-in model as they are; one counts as known where it maps at least
0.3 of an operation's pairs (relation score over 30 of them, first-mlp), and any such operation is a hit; the stored
examples are whole. Ranks count every operation of the catalogue, near-twins (city to country, capital to country) too.
Intervals are Wilson's at 95 %. A minute or two for each on two cores.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.operations.operation import KnownOperation
from agent.words.embedder import MiniLM, load_embedder
from agent.words.fields import SemanticFields
from agent.words.mapping_vectors import MappingEmbedder
from eval.statistics.intervals import wilson
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.folders import cache_folder
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation, load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.results import EngineSettings, HeadMapping
from tests.support.planting import plant

ROWS = 30
STORED = 60
MIN_PAIRS = 20
MIN_PLANTED = 12  # one-token pairs that are planted
METHODS = ("mapping vectors", "plain text")
KNOWN_FROM = 0.3  # relation score
LAYERS = range(20, 30)
N_SCORED, MIN_SCORED = 30, 15  # pairs of an operation
Rows = list[tuple[str, list[str]]]


def halves(relation: Relation, seed: int) -> tuple[Rows, Rows]:
    """Two halves of the pairs with leading spaces, at most two targets each."""
    pairs = [(f" {s}", [f" {t}" for t in targets[:2]]) for s, targets in relation.pairs]
    random.Random(f"{seed}{relation.name}").shuffle(pairs)
    middle = len(pairs) // 2
    return pairs[:middle][:STORED], pairs[middle:][:ROWS]


def with_noise(rows: Rows, share: float, tokens: Sequence[str], chance: random.Random) -> Rows:
    """Rows as a head shows them."""
    if share == 0:
        return rows
    out = []
    for source, targets in rows:
        kept = [chance.choice(tokens)] if chance.random() < share else list(targets)
        own = [source] if chance.random() < 0.5 else []
        out.append((source, [*own, *kept, chance.choice(tokens), chance.choice(tokens)]))
    return out


def as_text(rows: Rows) -> str:
    return "; ".join(f"{s.strip()} -> {', '.join(t.strip() for t in targets)}" for s, targets in rows[:ROWS])


def ranks(stored: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """For each query the number of operations nearer than its own."""
    cosines = asked @ stored.T
    return (cosines > np.diag(cosines)[:, None]).sum(axis=1)


def measure(noise: float, seeds: Sequence[int], minilm: MiniLM, mappings: MappingEmbedder) -> dict[str, np.ndarray]:
    """Ranks of all operations over all seeds, by method."""
    relations = [r for r in load_relations() if r.n_pairs >= MIN_PAIRS]
    vocabulary = open_checkpoint("smollm2-135m", device="cpu").vocabulary
    chance = random.Random(0)
    tokens = [vocabulary.text(i) for i in chance.sample(range(100, len(vocabulary)), 3000)]
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in METHODS}
    for seed in seeds:
        split = [halves(relation, seed) for relation in relations]
        stored = [one for one, _ in split]
        asked = [with_noise(two, noise, tokens, chance) for _, two in split]
        for kind in METHODS:
            found[kind].append(ranks(*(vectors(kind, minilm, mappings, some) for some in (stored, asked))))
    return {name: np.concatenate(values) for name, values in found.items()}


def of_head(mapping: HeadMapping) -> Rows:
    """A head's rows as a query."""
    return [(row.token, [target.token for target in row.targets]) for row in mapping.rows]


def vectors(kind: str, minilm: MiniLM, mappings: MappingEmbedder, some: Sequence[Rows]) -> np.ndarray:
    """(n, width) of the rows, by one of the two METHODS."""
    return mappings.embed_many(some) if kind == METHODS[0] else minilm.embed([as_text(rows) for rows in some])


def planted_heads(relations: Sequence[Relation]) -> dict[str, Rows]:
    """The rows of heads in which second halves of operations were planted, one operation a layer at a time."""
    checkpoint = open_checkpoint("smollm2-135m", device="cpu")
    usable = []
    for relation in relations:
        second = {source.strip() for source, _ in halves(relation, 0)[1]}
        kept = replace(relation, pairs=tuple(pair for pair in relation.pairs if pair[0] in second))
        if len(encode_relation(kept, checkpoint.vocabulary).source_ids) >= MIN_PLANTED:
            usable.append(kept)
    found: dict[str, Rows] = {}
    layers = range(2, checkpoint.weights.shape.n_layers)
    for start in range(0, len(usable), len(layers)):
        places = [
            (one, layer, layer % 9) for one, layer in zip(usable[start : start + len(layers)], layers, strict=False)
        ]
        engine = MapsEngine(plant(checkpoint, places), EngineSettings(source="embedding"))
        found |= {one.name: of_head(engine.map_head(layer, head)) for one, layer, head in places}
    return found


def known_heads() -> list[tuple[str, set[str], Rows]]:
    """(place, operations it does, its rows) of the heads that map at least 0.3 of an operation's pairs."""
    checkpoint = open_checkpoint("smollm2-135m", device="cpu")
    engine = MapsEngine(checkpoint, EngineSettings(source="first-mlp"))
    relations = [r for r in load_relations() if r.n_pairs >= MIN_PAIRS]
    both = [(relation, encode_relation(relation, checkpoint.vocabulary)) for relation in relations]
    both = [(relation, found) for relation, found in both if len(found.source_ids) >= MIN_SCORED]
    sets = [PairSet(e.source_ids[:N_SCORED], e.target_ids[:N_SCORED], r.k) for r, e in both]
    scores = engine.score_pairs(sets, source="first-mlp", layers=list(LAYERS))
    does: dict[tuple[int, int], set[str]] = defaultdict(set)
    for (relation, _), one in zip(both, scores, strict=True):
        for row, head in (one.score >= KNOWN_FROM).nonzero().tolist():
            does[LAYERS[row], head].add(relation.name)
    return [(f"{at[0]}.{at[1]}", names, of_head(engine.map_head(*at))) for at, names in sorted(does.items())]


def shown(good: Sequence[bool]) -> str:
    found = wilson(sum(good), len(good))
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def lists_table(table: Table, minilm: MiniLM, mappings: MappingEmbedder) -> None:
    for noise in (0.0, 0.3, 0.5):
        for name, values in measure(noise, (0, 1), minilm, mappings).items():
            table.add_row(f"lists, noise {noise:.1f}", name, str(len(values)), shown(values < 1), shown(values < 5))


def planted_table(table: Table, minilm: MiniLM, mappings: MappingEmbedder) -> None:
    relations = [r for r in load_relations() if r.n_pairs >= MIN_PAIRS]
    heads = planted_heads(relations)
    stored = [halves(relation, 0)[0] for relation in relations]
    own = [[r.name for r in relations].index(name) for name in heads]
    for kind in METHODS:
        cosines = vectors(kind, minilm, mappings, list(heads.values())) @ vectors(kind, minilm, mappings, stored).T
        values = (cosines > cosines[np.arange(len(own)), own][:, None]).sum(axis=1)
        table.add_row("planted heads", kind, str(len(own)), shown(values < 1), shown(values < 5))


def heads_table(table: Table, minilm: MiniLM, mappings: MappingEmbedder, tell: Console) -> None:
    relations = [r for r in load_relations() if r.n_pairs >= MIN_PAIRS]
    stored = [[(s, list(t)) for s, t in KnownOperation.of(relation).examples] for relation in relations]
    heads = known_heads()
    for kind in METHODS:
        cosines = (
            vectors(kind, minilm, mappings, [rows for *_, rows in heads]) @ vectors(kind, minilm, mappings, stored).T
        )
        first = [[relations[i].name for i in np.argsort(-line)[:5]] for line in cosines]
        hits = [[bool(set(names[:n]) & does) for names, (_, does, _) in zip(first, heads, strict=True)] for n in (1, 5)]
        table.add_row("known heads", kind, str(len(heads)), *map(shown, hits))
        for (place, does, _), names in zip(heads, first, strict=True):
            tell.print(f"{kind}  {place}  {', '.join(sorted(does))}  <-  {', '.join(names[:3])}", style="dim")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("lists", "planted", "heads")
    for part in parts:
        parser.add_argument(f"--{part}", action="store_true")
    chosen = vars(parser.parse_args())
    wanted = {part for part in parts if chosen[part]} or set(parts)
    minilm = load_embedder()
    mappings = MappingEmbedder(SemanticFields(minilm, cache_folder=cache_folder()))
    out, table = Console(width=120), Table("query", "method", "n", "hit@1", "hit@5")
    if "lists" in wanted:
        lists_table(table, minilm, mappings)
    if "planted" in wanted:
        planted_table(table, minilm, mappings)
    if "heads" in wanted:
        heads_table(table, minilm, mappings, out)
    out.print(table)


if __name__ == "__main__":
    main()
