"""From a tokenizer's own spelling of a token to its text, and back to something safe to show.

Byte-level BPE spells each byte as a printable character (space is Ġ); SentencePiece writes ▁ for a space and
<0x0A> for a lone byte.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Spelling = Literal["byte-level", "sentencepiece", "plain"]

BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_PLACEHOLDER = re.compile(
    r"[<\[>|]*(unused|reserved|pad|dummy|extra|placeholder|special|control|unk|reserved_special_token|extra_id)"
    r"[ _-]?(token)?[ _-]?\d+[>\]<|]*|madeupword\d+",
    re.IGNORECASE,
)
_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x00": "␀", "\x1b": "␛"}
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 and up."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in own}
    others = [byte for byte in range(256) if byte not in set(own)]
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_of_character()


def token_bytes(token: str) -> bytes | None:
    """The bytes a byte-level token stands for; None when it is not written in that alphabet."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return None


def spelled_text(token: str, spelling: Spelling) -> str:
    """The text of a token; bytes that are no complete UTF-8 come as <0xE4> marks."""
    if spelling == "sentencepiece":
        return token.replace("▁", " ")
    raw = token_bytes(token) if spelling == "byte-level" else None
    if raw is None:
        return token
    decoded = raw.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in decoded)


def is_partial_bytes(token: str, spelling: Spelling) -> bool:
    """Whether a token is a lone byte (SentencePiece) or no complete UTF-8 (byte-level BPE)."""
    if spelling == "sentencepiece":
        return BYTE_TOKEN.fullmatch(token) is not None
    raw = token_bytes(token) if spelling == "byte-level" else None
    if raw is None:
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def is_placeholder(token: str) -> bool:
    """Whether a token is a reserved slot that no text uses: <unused7>, <|reserved_special_token_3|>, [PAD151]…"""
    return _PLACEHOLDER.fullmatch(token) is not None


def visible(text: str) -> str:
    """`text` for terminals and pages: outer spaces as ␣, and nothing left that moves a cursor or turns direction.

    Control characters, terminal escapes, bidi and zero-width marks, lone surrogates, private and unassigned
    characters and odd spaces come as <U+202E>; a leading combining mark gets a dotted circle to sit on.
    """
    core = text.strip(" ")
    lead = len(text) - len(text.lstrip(" "))
    trail = len(text) - lead - len(core) if core else 0
    shown = "".join(map(_visible_character, core))
    if core and unicodedata.category(core[0]) in ("Mn", "Me", "Mc"):
        shown = "◌" + shown
    return "␣" * lead + shown + "␣" * trail


def _visible_character(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    category = unicodedata.category(character)
    if category in _HIDDEN or (category == "Zs" and character != " "):
        return f"<U+{ord(character):04X}>"
    return character
