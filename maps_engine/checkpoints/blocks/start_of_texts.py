"""The token that the texts of a model's training begin with: what stands in front of every token that it reads.

It matters much: on SmolLM2, whose chat template begins with `<|im_start|>`, its configuration names that token as the
beginning of a sequence, but its training texts begin with `<|endoftext|>`. See docs/method.md, "What a head really
reads".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Tokenizer

# of a conversation and its turns, tools and system texts, never of plain text
_CHAT = re.compile(r"im_|turn|eot|eom|header|user|assistant|system|inst|tool|channel|message|chat", re.IGNORECASE)
# of a document's beginning, then of its end, which stands between the documents of a training text
_SEPARATORS = ("<|begin_of_text|>", "<bos>", "<s>", "<|startoftext|>", "<|endoftext|>", "<|end_of_text|>", "</s>")


def start_of_texts(tokenizer: Tokenizer, named: Iterable[int]) -> tuple[int, ...]:
    """What the tokenizer itself puts before a text; else a document separator; () where none is known.

    `named`: ids that the checkpoint's metadata calls beginning or end of a sequence, the beginning first. A token of
    chats is never taken.
    """
    prefix = _put_before(tokenizer)
    if prefix:
        return prefix
    known = [i for i in named if _is_separator(tokenizer.id_to_token(i))]
    special = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    known += [special[name] for name in _SEPARATORS if name in special]
    return tuple(known[:1])


def _put_before(tokenizer: Tokenizer) -> tuple[int, ...]:
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
    return tuple(whole[:at])


def _is_separator(token: str | None) -> bool:
    return token is not None and not _CHAT.search(token)
