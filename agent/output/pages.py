"""HTML from templates: one Jinja environment, one style sheet and one set of filters for all reports and the web app.

Values are escaped unless a filter made them; a name that a template misses is an error, not an empty string.
A report is one file that opens offline: style, script and pictures stand inside it, and its own policy allows no
other style, script or request. The web app serves the same style sheet and extends the same templates.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent.output.tokens import token_html
from maps_engine.checkpoints.token_spelling import visible
from maps_engine.qk.kinds import READINGS, reading, sentence

TEMPLATES: Final = Path(__file__).parent / "templates"
STATIC: Final = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Picture:
    """A figure of a report: `svg` follows the reader's light or dark, `caption` says what is drawn."""

    name: str
    svg: bytes
    caption: str

    @property
    def file_name(self) -> str:
        """Its file beside a Markdown report."""
        return f"{self.name}.svg"

    @property
    def address(self) -> str:
        """The whole picture as a data address."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


@cache
def environment(*folders: Path) -> Environment:
    """The templates of `folders`, then the shared ones."""
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "tok": token_html,
        "shown": visible,
        "clock": clock_time,
        "when": date_time,
        "num": number,
        "attends": sentence,
        "readings": lambda head: [(name, reading(head, name)) for name in READINGS],
    }
    return made


def report_html(template: str, *, script: str | None = None, folders: Sequence[Path] = (), **values: Any) -> str:
    """A report as one page. `template` extends report.html; `script` names a file of the static folder."""
    style = _static("style.css")
    code = _static(script) if script else ""
    return (
        environment(*folders)
        .get_template(template)
        .render(
            style=Markup(style),
            style_hash=_digest(style),
            script=Markup(code),
            script_hash=_digest(code) if code else "",
            **values,
        )
    )


@cache
def _static(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


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
