"""Tokens and texts of models as inert HTML: the one way in which every page and report shows them.

What stands for a character that cannot be seen comes from `visible`, as in the terminal; here it is set apart by
markup, so that a mark cannot be taken for the token's own text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

from markupsafe import Markup, escape

from maps_engine.checkpoints.token_spelling import visible

SHOWN_CHARACTERS: Final = 60
_PLAIN: Final = frozenset(map(chr, range(0x21, 0x7F)))
_PARTS: Final = re.compile(r"[!-~]+|[^!-~]", re.DOTALL)  # printable ASCII in one piece, anything else one by one
_STORED_NUL: Final = "␀"  # databases take no NUL, so records hold this sign in its place


def token_html(token: str, limit: int = SHOWN_CHARACTERS) -> Markup:
    """A token as inert HTML of at most `limit` characters, its direction isolated.

    Spaces come as ␣, characters that cannot be seen as marks; a longer token is cut and its length said.
    """
    return _token_html(token, limit) if len(token) <= SHOWN_CHARACTERS else _token_html.__wrapped__(token, limit)


@lru_cache(maxsize=50_000)  # raters and readers see the same tokens again and again
def _token_html(token: str, limit: int) -> Markup:
    parts = [escape(part) if part[0] in _PLAIN else _character(part) for part in _PARTS.findall(token[:limit])]
    if token and unicodedata.category(token[0])[0] == "M":
        parts.insert(0, Markup("◌"))  # a combining mark needs a character to sit on
    if len(token) > limit:
        parts.append(Markup('<span class="esc">… {:,} characters</span>').format(len(token)))
    if not token:
        parts.append(Markup('<span class="esc">empty</span>'))
    return Markup('<bdi class="tok">') + Markup("").join(parts) + Markup("</bdi>")


def _character(character: str) -> Markup:
    shown = visible(character)
    if character == " ":
        return Markup('<span class="sp">{}</span>').format(shown)
    if shown == character != _STORED_NUL or unicodedata.category(character)[0] == "M":
        return escape(character)
    return Markup('<span class="esc">{}</span>').format(shown.removeprefix("<").removesuffix(">"))
