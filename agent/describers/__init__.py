"""Describers: they name what a head does from its rows, behind one Protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence

from agent.describers.fields import SemanticFields
from agent.describers.protocol import Describer
from agent.errors import UnknownDescriber
from maps_engine.relation_catalogue import Relation

__all__ = ["Describer", "chosen_name", "make_describer"]

DEFAULT_OPENAI_MODEL = "gpt-4o"  # the paper's


def chosen_name(name: str) -> str:
    """`auto` resolved: an OpenAI-compatible model when a key or an address is set, else `lexical`."""
    if name != "auto":
        return name
    if any(os.environ.get(v) for v in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE")):
        return f"openai:{os.environ.get('OPENAI_MODEL') or DEFAULT_OPENAI_MODEL}"
    return "lexical"


def make_describer(name: str, *, fields: SemanticFields, relations: Sequence[Relation]) -> Describer:
    """The describer of that name: `lexical`, `openai:MODEL` or `auto`. Raises UnknownDescriber."""
    kind, _, model = chosen_name(name).partition(":")
    if kind == "lexical" and not model:
        from agent.describers.lexical import LexicalDescriber

        return LexicalDescriber(fields, relations)
    if kind == "openai":
        from agent.describers.openai_model import OpenAIDescriber

        return OpenAIDescriber(model)
    raise UnknownDescriber("no such describer", got=name, expected="lexical, openai:MODEL or auto")
