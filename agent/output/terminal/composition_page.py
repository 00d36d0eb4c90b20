"""What feeds heads, on a terminal: one table for keys, queries and values each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maps_engine.checkpoints.token_spelling import visible
from maps_engine.qk.composition import KINDS, Composition, Edge

TITLES = {"K": "keys (K)", "Q": "queries (Q)", "V": "values (V)"}


def show_composition(console: Console, found: Composition, edges: Sequence[Edge]) -> None:
    """The page: edges of each kind, in the order in which they come."""
    name = visible(found.model)
    console.print(f"{name}: {found.n_layers} layers x {found.n_heads} heads", markup=False)
    console.print(
        "Heads are layer.head. Strength: how much of what one head writes the other reads, by what random directions"
        " would give (1); deviations: standard deviations from there.",
        soft_wrap=True,
    )
    if not edges:
        console.print("No earlier head feeds these heads.")
    for kind in KINDS:
        own = [one for one in edges if one.kind == kind]
        if own:
            console.print()
            console.print(_table(TITLES[kind], own))


def _table(title: str, edges: Sequence[Edge]) -> Table:
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=Text(title, style="bold underline"), title_justify="left", show_edge=False
    )
    table.add_column("head", no_wrap=True)
    table.add_column("reads from", no_wrap=True)
    table.add_column("strength", justify="right", no_wrap=True)
    table.add_column("deviations", justify="right", no_wrap=True)
    for one in edges:
        reader, source = ("{}.{}".format(*place) for place in (one.reader, one.source))
        table.add_row(reader, source, f"{one.strength:.2f}", f"{one.deviations:.0f}")
    return table
