"""Reports in Markdown: text of others escaped, tables, and the same report as HTML.

The HTML follows from the Markdown, so that the two cannot say different things. Raw HTML and links are left as
text, and a picture is shown only where it is one of the report's own: nothing in a name can load or run anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from agent.output.pages import Picture, environment, report_html
from maps_engine.checkpoints.token_spelling import visible

_SPECIAL: Final = re.compile(r"([\\`*\[\]<>|&~])")


def escaped(text: str) -> str:
    """Text of others as one line that Markdown shows as it stands."""
    return _SPECIAL.sub(r"\\\1", visible(" ".join(text.split())))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """A Markdown table of cells that are Markdown; with `numbers` all columns but the first go to the right."""
    lines = [_line(head), "|" + "|".join(["---", *["---:" if numbers else "---"] * (len(head) - 1)]) + "|"]
    return "\n".join([*lines, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |"


def document(title: str, text: str, pictures: Mapping[str, Picture]) -> str:
    """A Markdown report as one HTML page; `pictures` by the address that the text gives them."""
    return report_html("document.html", title=title, body=to_html(text, pictures))


def to_html(text: str, pictures: Mapping[str, Picture] | None = None) -> Markup:
    """Markdown as HTML, tables in boxes that scroll, pictures as figures with their captions."""
    return Markup(_renderer().render(text, {"pictures": pictures or {}}))


@cache
def _renderer() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "autolink", "reference"])
    made.core.ruler.push("lone_pictures", lambda state: _unwrap_pictures(state.tokens))
    made.add_render_rule("image", _image)
    made.add_render_rule("table_open", _table_open)
    made.add_render_rule("table_close", lambda *_: "</table></div>\n")
    made.add_render_rule("th_open", _cell_open)
    made.add_render_rule("td_open", _cell_open)
    return made


def _unwrap_pictures(tokens: Sequence[Token]) -> None:
    """A paragraph that is one picture becomes a figure, which no paragraph may hold."""
    for before, one, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if one.type == "inline" and [child.type for child in one.children or ()] == ["image"]:
            before.hidden = after.hidden = True


def _image(self: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: MutableMapping[str, Any]) -> str:
    picture = env["pictures"].get(tokens[place].attrs["src"])
    if picture is None:
        return str(escape(tokens[place].content))
    return environment().get_template("_picture.html").render(one=picture)


def _table_open(*_: Any) -> str:
    return '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>\n'


def _cell_open(
    self: RendererHTML, tokens: Sequence[Token], place: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    cell = tokens[place]
    numbers = cell.attrs.pop("style", None) == "text-align:right"  # a class instead: no style stands in a page
    scope = ' scope="col"' if cell.tag == "th" else ""
    look = ' class="num"' if numbers else ""
    return f"<{cell.tag}{scope}{look}>"
