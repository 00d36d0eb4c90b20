"""What a head attends to, on its terminal page."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Group, RenderableType
from rich.text import Text

from agent.output.console import inert, token_text
from agent.output.terminal.tables import plain_table, tokens
from maps_engine.qk.kinds import READINGS, feeder, kinds, reading, sentence
from maps_engine.results import HeadAttention

BARS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
OFFSETS = 32  # of the profile that are drawn
QUERIES = 6  # rows of the table
NOT_READ = "not read: not asked for, not understood of this model, or too large for this machine (docs/method.md)"
FED = {"K": "Its keys", "Q": "Its queries", "V": "Its values"}


def attends_line(head: HeadAttention | None) -> Text:
    """One sentence, and the kinds."""
    line = Text.assemble(("  attends  ", "dim"))
    if head is None:
        return line.append(NOT_READ, "dim")
    return line.append_text(inert(sentence(head))).append(f"  ({', '.join(kinds(head))})", "dim")


def attended(head: HeadAttention, faint: Collection[int]) -> RenderableType:
    """Shares by place, and words that fit."""
    shares = "  ".join(f"{name} {reading(head, name):.2f}" for name in READINGS)
    lines = [
        Text.assemble(("Attention it pays in made-up texts: ", "dim"), shares),
        Text.assemble((f"By distance, 0 to {OFFSETS - 1} tokens back: ", "dim"), _bars(head)),
        Text.assemble(("Keys that all queries prefer: ", "dim"), tokens(head.popular, faint)),
        Text.assemble(("Keys that all queries avoid: ", "dim"), tokens(head.avoided, faint)),
    ]
    for part, name in FED.items():
        feeds = [f"{feeder(one)} {one.strength:.1f}" for one in head.fed_by if one.part == part]
        if feeds:
            lines.append(Text.assemble((f"{name} are fed by: ", "dim"), "  ".join(feeds)))
    table = plain_table("Queries that choose most among keys, and the keys that they attend to beyond what all prefer")
    table.add_column("spread", justify="right", no_wrap=True, style="dim")
    table.add_column("query", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("keys, strongest first", overflow="fold")
    for row in head.attends[:QUERIES]:
        table.add_row(f"{row.salience:.2f}", token_text(row.token, "bold"), tokens(row.targets, faint))
    return Group(*lines, Text(), table)


def _bars(head: HeadAttention) -> str:
    most = max(head.profile, default=0.0) or 1.0
    return "".join(BARS[round((len(BARS) - 1) * share / most)] for share in head.profile[:OFFSETS])
