"""Jinja templates with autoescape, and how hostile tokens are shown."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from eval.web.identity import visitor_of

FOLDER = Path(__file__).parent
SHOWN_CHARACTERS = 60
SPACE_MARK = "␣"


def token_text(token: str, limit: int = SHOWN_CHARACTERS) -> Markup:
    """A token as inert HTML: spaces as marks, invisible and control characters as codes, direction isolated."""
    return _token_text(token, limit) if len(token) <= SHOWN_CHARACTERS else _token_text.__wrapped__(token, limit)


@lru_cache(maxsize=50_000)  # raters and readers see the same tokens again and again
def _token_text(token: str, limit: int) -> Markup:
    parts = [escape(part) if part[0] in _PLAIN else _character(part) for part in _PARTS.findall(token[:limit])]
    if len(token) > limit:
        parts.append(Markup('<span class="esc">… {:,} characters</span>').format(len(token)))
    if not token:
        parts.append(Markup('<span class="esc">empty</span>'))
    return Markup('<bdi class="tok">') + Markup("").join(parts) + Markup("</bdi>")


_PLAIN = frozenset(map(chr, range(0x21, 0x7F)))
_PARTS = re.compile(r"[!-~]+|[^!-~]", re.DOTALL)  # printable ASCII in one piece, anything else one by one


def _character(character: str) -> Markup:
    if character == " ":
        return Markup('<span class="sp">{}</span>').format(SPACE_MARK)
    if character in _NAMED:
        return Markup('<span class="esc">{}</span>').format(_NAMED[character])
    category = unicodedata.category(character)
    if category[0] == "C" or category in ("Zl", "Zp", "Zs"):
        return Markup('<span class="esc">U+{:04X}</span>').format(ord(character))
    return escape(character)


_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "␀": "U+0000"}


def clock_time(seconds: float | None) -> str:
    """`14:03` in the server's own time zone."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%H:%M")


def date_time(seconds: float | None) -> str:
    """`2026-05-01 14:03 UTC`."""
    if seconds is None:
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def number(value: float | None, digits: int = 2) -> str:
    """A number or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def make_environment() -> Environment:
    """Templates of this package; a name that a template misses is an error, not an empty string."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"tok": token_text, "clock": clock_time, "when": date_time, "num": number}
    return environment


_environment = make_environment()


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true" and "hx-history-restore-request" not in request.headers


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template; every page knows its visitor."""
    text = _environment.get_template(template).render(
        request=request, visitor=visitor_of(request), path=request.url.path, **values
    )
    return HTMLResponse(text.encode("utf-8", "replace").decode("utf-8"), status_code=status)
