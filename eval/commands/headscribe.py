"""`headscribe`: every command under one name. Those that are scripts of their own as well are the same functions."""

from __future__ import annotations

from typing import Any

from agent.commands import map_relations, operations, runs
from agent.commands.command_line import command, group_of_commands
from agent.commands.composition import composition
from agent.commands.describe_head import describe_head
from agent.commands.help_page import Group
from agent.commands.label_heads import label_heads
from eval.commands import check, rate_heads
from eval.commands.score import score
from eval.commands.serve_heads import serve_heads

ORDER = (
    *("describe-head", "label-heads", "map-relations", "composition"),
    *("operations", "runs", "score", "check", "rate-heads", "serve-heads"),
)


class _InOrder(Group):
    def list_commands(self, ctx: Any) -> list[str]:
        """From one head to all heads, to what is known and stored, to judging it."""
        return list(ORDER)


app = group_of_commands("Says what each attention head of a language model does, from its weights.", cls=_InOrder)
command(app, "describe-head", line="One head: what it does, with evidence and a test.")(describe_head)
command(app, "label-heads", line="All heads of a model, resumable, with exports.")(label_heads)
command(app, "composition", line="Which earlier heads feed a head, from the weights.")(composition)
command(app, "score", line="How well descriptions predict their heads.")(score)
command(app, "serve-heads", line="The web app: head browser, rating pages, JSON API.")(serve_heads)
app.add_typer(map_relations.app, name="map-relations", short_help="Which heads do which known operation.")
app.add_typer(operations.app, name="operations", short_help="Known operations: list, add, remove, rebuild.")
app.add_typer(runs.app, name="runs", short_help="Stored runs: list, show, compare, export, delete.")
app.add_typer(check.app, name="check", short_help="Do scores from weights hold when the model runs?")
app.add_typer(rate_heads.app, name="rate-heads", short_help="Human studies of descriptions: create, serve, publish.")


def headscribe_main() -> None:
    """Entry point of `headscribe`."""
    app(prog_name="headscribe")
