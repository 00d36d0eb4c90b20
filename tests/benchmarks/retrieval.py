"""hit@1 and hit@5 of retrieval: our mapping vectors against plain text of the pairs, same pairs, same embedder.

    python -m tests.benchmarks.retrieval

Half of an operation's pairs make the stored example, 30 pairs of the other half make the query: sources are never
shared. Noise: that share of rows has only random tokens; every other row gets two random tokens beside its targets,
and half of the rows the source itself, as rows of real heads do. Ranks count every operation of the catalogue,
near-twins (city to country, capital to country) included. A minute or two on two cores.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.describers.fields import SemanticFields
from agent.embedder import MiniLM, load_embedder
from agent.mapping_embedding import MappingEmbedder
from maps_engine.checkpoint import open_checkpoint
from maps_engine.folders import cache_folder
from maps_engine.relation_catalogue import Relation, load_relations

ROWS = 30
STORED = 60
MIN_PAIRS = 20
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
    found: dict[str, list[np.ndarray]] = {"mapping vectors": [], "plain text": []}
    for seed in seeds:
        split = [halves(relation, seed) for relation in relations]
        stored = [one for one, _ in split]
        asked = [with_noise(two, noise, tokens, chance) for _, two in split]
        found["mapping vectors"].append(
            ranks(mappings.embed_many(stored), np.stack([mappings.embed(r) for r in asked]))
        )
        found["plain text"].append(
            ranks(minilm.embed([as_text(r) for r in stored]), minilm.embed([as_text(r) for r in asked]))
        )
    return {name: np.concatenate(values) for name, values in found.items()}


def main() -> None:
    minilm = load_embedder()
    mappings = MappingEmbedder(SemanticFields(minilm, cache_folder=cache_folder()))
    table = Table("noise", "method", "n", "hit@1", "hit@5")
    for noise in (0.0, 0.3, 0.5):
        for name, values in measure(noise, (0, 1), minilm, mappings).items():
            table.add_row(
                f"{noise:.1f}", name, str(len(values)), f"{(values < 1).mean():.2f}", f"{(values < 5).mean():.2f}"
            )
    Console().print(table)


if __name__ == "__main__":
    main()
