"""A describer by its name, as it is given on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.describers.protocol import CHOOSE, Describer
from agent.errors import UnknownDescriber
from agent.llm.options import MAX_REVISIONS, NAMED_PARTS
from maps_engine.errors import UserMistake
from maps_engine.relations.catalogue import Relation

if TYPE_CHECKING:
    from agent.llm.options import ModelOptions
    from agent.words.fields import SemanticFields

DEFAULT_OPENAI_MODEL = "gpt-4o"  # as in the paper
BEGINNINGS = ("auto", "lexical", "openai:", "local:", CHOOSE)  # what a shell can complete of the names
NAMES = (
    "lexical, auto, openai:MODEL, local:PATH_OR_ID or a LangChain provider's PROVIDER:MODEL; choose: before a model "
    "lets it choose among what lexical counts"
)


def chosen_name(name: str) -> str:
    """`auto` resolved: an OpenAI-compatible model when a key or an address is set, else `lexical`."""
    if name != "auto":
        return name
    if any(os.environ.get(v) for v in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE")):
        return f"openai:{os.environ.get('OPENAI_MODEL') or DEFAULT_OPENAI_MODEL}"
    return "lexical"


def make_describer(
    name: str,
    *,
    fields: Callable[[], SemanticFields],
    relations: Sequence[Relation],
    options: ModelOptions | None = None,
    max_revisions: int = MAX_REVISIONS,
    most_parts: int = NAMED_PARTS,
) -> Describer:
    """The describer of that name: `lexical`, `auto`, or a language model (`agent.llm.models`).

    `fields` loads the labelled word lists and is called where the lexical describer counts. `options` and
    `max_revisions` and `most_parts` are for language models. Raises UnknownDescriber, ExtraMissing, UserMistake.
    """
    name = chosen_name(name)
    if name == "lexical":
        from agent.describers.lexical import LexicalDescriber

        return LexicalDescriber(fields(), relations)
    if most_parts < 0:
        raise UserMistake("fewer parts than none cannot be named", got=most_parts, expected="0 for none, or more")
    if ":" not in name:
        raise UnknownDescriber("no such describer", got=name, expected=NAMES)
    from agent.describers.language_model import LanguageModelDescriber
    from agent.llm.models import open_language_model

    if name.startswith(CHOOSE):
        from agent.describers.choosing import ChoosingDescriber
        from agent.describers.lexical import LexicalDescriber

        model = open_language_model(name.removeprefix(CHOOSE), options=options)
        return ChoosingDescriber(model, LexicalDescriber(fields(), relations))
    model = open_language_model(name, options=options)
    return LanguageModelDescriber(model, max_revisions=max_revisions, most_parts=most_parts)
