"""What tables of a terminal page have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from agent.output.console import token_text
from maps_engine.results import ScoredToken


def plain_table(title: str) -> Table:
    """A table of a page, without columns yet."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=False)


def tokens(scored: Sequence[ScoredToken], faint: Collection[int] = ()) -> Text:
    """Tokens in a row; those whose ids are in `faint` dimmed."""
    return Text("  ").join([token_text(one.token, "dim" if one.token_id in faint else "") for one in scored])
