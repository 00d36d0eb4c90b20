"""What a shell offers to complete: the words that an option knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

SOURCES = ("auto", "residual", "first-mlp", "paper", "embedding")
DEVICES = ("auto", "cpu", "cuda", "mps")


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
