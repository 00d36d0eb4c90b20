"""Texts in which attention is measured: prose and code that come with the package, or files of the user's own.

`texts.json` holds both with their sources. Texts are cut into pieces of as many tokens, each behind the start of texts;
repeated tokens are made by chance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.model import Vocabulary

LENGTH: Final = 128  # tokens of a piece, the start of texts included
MAX_TOKENS: Final = 8192  # of all texts together
CHARACTERS: Final = 32  # of a text that are cut into tokens, for each that is wanted: more than tokens have
REPEATS: Final = 24  # texts of tokens that repeat
REPEATED: Final = 48  # tokens of such a text, each twice
SEED: Final = 1


@dataclass(frozen=True)
class Text:
    """A text under the name that the tables give it; `source` says where it is from."""

    name: str
    source: str
    text: str

    @property
    def digest(self) -> str:
        """12 hex digits that change with any character."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()[:12]


@dataclass(frozen=True)
class Pieces:
    """A text as the model is given it: ids (n, LENGTH), the start of texts first in each."""

    name: str
    source: str
    ids: Tensor


def shipped_texts() -> tuple[Text, ...]:
    """English prose whose author died more than a hundred years ago, and Python code."""
    found = json.loads(Path(__file__).with_name("texts.json").read_text("utf-8"))
    return tuple(Text(name, one["source"], one["break"].join(one["lines"])) for name, one in found.items())


def text_files(paths: Sequence[Path]) -> tuple[Text, ...]:
    """The user's own texts, under the names of their files. Raises UserMistake for one that cannot be read."""
    names = [path.name for path in paths]
    numbers = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return tuple(
        Text(path.name if number == 1 else f"{path.name} {number}", "a file of the user's", _read(path))
        for path, number in zip(paths, numbers, strict=True)
    )


def _read(path: Path) -> str:
    next_step = "Give a text file with --text."
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        got = f"{path}: {error.strerror or error}"
        raise UserMistake("the text cannot be read", got=got, expected="a file", next_step=next_step) from error
    except UnicodeDecodeError as error:
        got = f"{path}, which has other bytes at {error.start}"
        raise UserMistake("the text is not in UTF-8", got=got, expected="UTF-8", next_step=next_step) from error
    if not text.strip():
        raise UserMistake("the text is empty", got=path, expected="words", next_step=next_step)
    return text


def cut(texts: Sequence[Text], vocabulary: Vocabulary, max_tokens: int) -> tuple[Pieces, ...]:
    """Each text in pieces, at most `max_tokens` tokens together, shared out evenly as far as the texts reach.

    Raises UserMistake for a text of less than a piece, and for too few tokens to have a piece of each.
    """
    start = torch.tensor(vocabulary.start, dtype=torch.long)
    n, most = LENGTH - len(start), max_tokens // LENGTH
    if most < len(texts):  # before texts are cut to what is wanted of them
        got, expected = f"{max_tokens} for {len(texts)} texts", f"{LENGTH} for each text or more"
        raise UserMistake("too few tokens", got=got, expected=expected, next_step="Raise --max-tokens.")
    found: dict[str, Tensor] = {}
    for one in texts:
        ids = vocabulary.encode(one.text[: CHARACTERS * max_tokens])
        if len(ids) < n:
            what = f"the text {one.name} is too short"
            raise UserMistake(what, got=f"{len(ids)} tokens", expected=f"at least {n}", next_step="Give a longer one.")
        words = torch.tensor(ids[: len(ids) // n * n]).view(-1, n)
        found[one.name] = torch.cat([start.expand(len(words), -1), words], dim=1)
    shares = _shares({name: len(ids) for name, ids in found.items()}, most)
    return tuple(Pieces(one.name, one.source, found[one.name][: shares[one.name]]) for one in texts)


def _shares(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """How many pieces each text gives: the same number, and more where shorter texts have not so many."""
    shares: dict[str, int] = {}
    for name in sorted(sizes, key=lambda one: sizes[one]):
        shares[name] = min(sizes[name], (most - sum(shares.values())) // (len(sizes) - len(shares)))
    return shares


def repeated_tokens(vocabulary: Vocabulary) -> Tensor:
    """(REPEATS, s + 2 REPEATED): the start of texts, tokens by chance, and the same again; none twice in a half.

    Raises UserMistake for a vocabulary with fewer tokens.
    """
    known = torch.tensor([i for i in range(len(vocabulary)) if vocabulary.kind(i) == "normal"], dtype=torch.long)
    if len(known) < REPEATED:
        raise UserMistake("too few tokens to make texts of", got=len(known), expected=f"at least {REPEATED}")
    chance = torch.Generator().manual_seed(SEED)
    once = torch.stack([known[torch.randperm(len(known), generator=chance)[:REPEATED]] for _ in range(REPEATS)])
    start = torch.tensor(vocabulary.start, dtype=torch.long).expand(REPEATS, -1)
    return torch.cat([start, once, once], dim=1)
