"""What makes a function one of headscribe's commands: plain help, `--version`, and words for the shell to complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Annotated, Any

import typer

SOURCES = ("auto", "first-mlp", "embedding", "first-block")
DEVICES = ("auto", "cpu", "cuda", "mps")


def command_line(**options: Any) -> typer.Typer:
    """The app of a command; errors are shown by `cli_support`, and completion can be installed."""
    return typer.Typer(
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headscribe {version('headscribe')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_say_version)
]


def words(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A completer: those of `known` that begin like the word on the command line."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


def models(incomplete: str) -> list[str]:
    """Built-in aliases; paths and hub ids are the user's own."""
    from maps_engine.checkpoints.builtin_models import PACKAGED

    return words(PACKAGED)(incomplete)


def operations(incomplete: str) -> list[str]:
    """Built-in operations, after the last comma of what is there already."""
    from maps_engine.relations.catalogue import built_in_names

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in words(("paper", *built_in_names()))(last)]
