"""A real tokenizer whose tokens are exactly the given texts."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers

from maps_engine.checkpoints.vocabulary import TokenizerVocabulary


def word_vocabulary(texts: Iterable[str]) -> TokenizerVocabulary:
    """Each of `texts` is one token, with its leading space where it has one; other words are unknown."""
    tokens = dict.fromkeys(text.replace(" ", "Ġ") for text in texts)
    ids = {token: i for i, token in enumerate(["<unk>", *tokens])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return TokenizerVocabulary(tokenizer, n_rows=len(ids))
