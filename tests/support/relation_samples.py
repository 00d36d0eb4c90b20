"""A small relation and a tokenizer that knows exactly the words it is given, for tests of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from maps_engine.checkpoints.vocabulary import TokenizerVocabulary
from maps_engine.relations.format import Relation

CAPITALS = Relation(
    name="country-to-capital",
    category="knowledge",
    description="Maps the name of a country to its capital city.",
    k=10,
    pairs=(("France", ("Paris",)), ("Italy", ("Rome",)), ("Bolivia", ("Sucre", "La Paz"))),
    paper=False,
    inputs="names of countries",
    outputs="their capital cities",
    provenance="Own list",
    licence="Apache-2.0",
)


def relation(pairs: Iterable[tuple[str, tuple[str, ...]]], **fields: object) -> Relation:
    """`CAPITALS` with other pairs and fields."""
    return replace(CAPITALS, pairs=tuple(pairs), **fields)


def vocabulary_of(words: Iterable[str]) -> TokenizerVocabulary:
    """A byte-level BPE whose merges spell exactly `words` (spaces count); all else falls to single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {char: place for place, char in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = "".join(part for part, _ in pre_tokenizers.ByteLevel(False).pre_tokenize_str(word))
        for end in range(2, len(pieces) + 1):
            merge = (pieces[: end - 1], pieces[end - 1])
            if merge not in merges:
                merges.append(merge)
            vocabulary.setdefault(pieces[:end], len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return TokenizerVocabulary(tokenizer, n_rows=len(vocabulary))
