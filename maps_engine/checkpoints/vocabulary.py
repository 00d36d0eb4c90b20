"""`Vocabulary` on top of the `tokenizers` library: texts, kinds and ids of tokens.

A tokenizer that puts a space before every text by itself (SentencePiece's dummy prefix, ByteLevel's
add_prefix_space) has that switched off, so that `encode` takes text as it stands: " Paris" is the one token
of a word after a space, and "Paris" the one without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from tokenizers import Tokenizer, normalizers

from maps_engine.checkpoints.blocks.start_of_texts import start_of_texts
from maps_engine.checkpoints.token_spelling import Spelling, is_partial_bytes, is_placeholder, spelled_text, visible
from maps_engine.errors import BrokenCheckpoint

__all__ = ["TokenizerVocabulary", "visible"]

Kind = Literal["normal", "special", "byte", "unused"]


class TokenizerVocabulary:
    """Tokens of one checkpoint. `n_rows` is the number of embedding rows; `special` adds ids to the special ones.

    `ends` are those that begin or end a sequence, the beginning first.
    Raises BrokenCheckpoint when embedding and tokenizer cannot belong together.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, n_rows: int, special: Iterable[int] = (), ends: Iterable[int] = ()
    ) -> None:
        n_ids = _number_of_ids(tokenizer)
        _check_rows(tokenizer, n_ids, n_rows)
        self._start = start_of_texts(tokenizer, ends)
        self._tokenizer = tokenizer
        self._spelling = _spelling(tokenizer)
        _take_text_as_it_stands(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        self._added = frozenset(added)
        self._special = frozenset(special) | {i for i, token in added.items() if token.special}
        self._n_ids = min(n_ids, n_rows)
        # lists of all heads name the same tokens over and over, and many rules look through the whole vocabulary
        self._texts: dict[int, str] = {}
        self._kinds: dict[int, Kind] = {}

    def __len__(self) -> int:
        return self._n_ids

    @property
    def start(self) -> tuple[int, ...]:
        """Ids that the model's texts begin with; () where none is known."""
        return self._start

    def text(self, token_id: int) -> str:
        """Decoded text with its real leading space; "" for an id without a token (a padding row)."""
        known = self._texts.get(token_id)
        if known is None:
            known = self._texts[token_id] = self._spelled(token_id)
        return known

    def _spelled(self, token_id: int) -> str:
        token = self._token(token_id)
        if token is None:
            return ""
        return token if token_id in self._added else spelled_text(token, self._spelling)

    def kind(self, token_id: int) -> Kind:
        """Text, a control token, bytes that are no complete character, or a row that no text uses."""
        known = self._kinds.get(token_id)
        if known is None:
            known = self._kinds[token_id] = self._found_kind(token_id)
        return known

    def _found_kind(self, token_id: int) -> Kind:
        token = self._token(token_id)
        if token is None or is_placeholder(token):
            return "unused"
        if token_id in self._special:
            return "special"
        if token_id not in self._added and is_partial_bytes(token, self._spelling):
            return "byte"
        return "normal"

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as it stands; text that spells a special token is taken as text."""
        safe = text.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates have no bytes
        return list(self._tokenizer.encode(safe, add_special_tokens=False).ids)

    def single_id(self, word: str, *, leading_space: bool = True) -> int | None:
        """The one token that spells `word` (with a leading space), or None when it takes several."""
        text = f" {word}" if leading_space else word
        ids = self.encode(text)
        if len(ids) != 1 or ids[0] >= self._n_ids or self.kind(ids[0]) != "normal":
            return None
        # a lower-casing or unknown-token tokenizer gives one id that does not spell the word
        return ids[0] if self.text(ids[0]) == text else None

    def _token(self, token_id: int) -> str | None:
        if not 0 <= token_id < self._n_ids:
            return None
        token: str | None = self._tokenizer.id_to_token(token_id)
        return token


def _number_of_ids(tokenizer: Tokenizer) -> int:
    """The highest id plus one: some tokenizers leave holes."""
    size = int(tokenizer.get_vocab_size(with_added_tokens=True))
    dense = size > 0 and tokenizer.id_to_token(size - 1) is not None and tokenizer.id_to_token(size) is None
    return size if dense else max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _check_rows(tokenizer: Tokenizer, n_ids: int, n_rows: int) -> None:
    """Rows may exceed ids by padding; added tokens may lack rows (Gemma 3 1B has one such); words may not."""
    base = int(tokenizer.get_vocab_size(with_added_tokens=False))
    if min(base, n_ids) <= n_rows <= n_ids + max(1024, n_ids // 4):
        return
    raise BrokenCheckpoint(
        "tokenizer and embeddings do not belong together",
        got=f"{n_rows} embedding rows for {n_ids} token ids",
        expected="as many rows as ids, or a little padding",
        next_step="Check that the tokenizer files come from the same model.",
    )


def _state(part: Any) -> dict[str, Any]:
    """A component of a tokenizer as its JSON."""
    return dict(json.loads(part.__getstate__())) if part is not None else {}


def _types(state: Any) -> set[str]:
    """All component types inside a (possibly sequenced) component."""
    if isinstance(state, list):
        return set().union(*map(_types, state)) if state else set()
    if not isinstance(state, dict):
        return set()
    own = {state["type"]} if isinstance(state.get("type"), str) else set()
    return own.union(*(_types(value) for value in state.values()))


def _spelling(tokenizer: Tokenizer) -> Spelling:
    decoder, pre = _state(tokenizer.decoder), _state(tokenizer.pre_tokenizer)
    if "ByteLevel" in _types(decoder) | _types(pre):
        return "byte-level"
    all_text = json.dumps([decoder, pre, _state(tokenizer.normalizer)], ensure_ascii=False)
    return "sentencepiece" if "▁" in all_text else "plain"


def _take_text_as_it_stands(tokenizer: Tokenizer) -> None:
    """Switch off prefix spaces, special tokens in the text, truncation and padding."""
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if "Prepend" in _types(_state(tokenizer.normalizer)):
        empty = normalizers.Sequence([])
        empty.__setstate__(json.dumps(_without_prepend(_state(tokenizer.normalizer))).encode())
        tokenizer.normalizer = empty
    pre = tokenizer.pre_tokenizer
    state = _state(pre)
    if _drop_prefix(state):
        pre.__setstate__(json.dumps(state).encode())
        tokenizer.pre_tokenizer = pre


def _without_prepend(state: dict[str, Any]) -> dict[str, Any]:
    parts = state["normalizers"] if state["type"] == "Sequence" else [state]
    return {"type": "Sequence", "normalizers": [part for part in parts if part["type"] != "Prepend"]}


def _drop_prefix(state: Any) -> bool:
    """Edit a pre-tokenizer's JSON in place; True when something changed."""
    if isinstance(state, list):
        changes = [_drop_prefix(part) for part in state]
        return any(changes)
    if not isinstance(state, dict):
        return False
    changed = False
    if state.get("type") == "Metaspace" and state.get("prepend_scheme") != "never":
        state["prepend_scheme"], changed = "never", True
    if state.get("type") == "ByteLevel" and state.get("add_prefix_space"):
        state["add_prefix_space"], changed = False, True
    return any([changed, *(_drop_prefix(value) for value in state.values())])
