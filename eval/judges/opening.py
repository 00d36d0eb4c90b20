"""The judge of a name. Heavy imports stay inside: a study's lexical judge needs neither torch nor MiniLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from agent.describers.factory import chosen_name
from eval.judges.protocol import Judge
from maps_engine.relations.catalogue import Relation, load_relations

if TYPE_CHECKING:
    from agent.llm.options import ModelOptions
    from agent.words.fields import SemanticFields

WITHOUT_MODEL: Final = ("lexical", "embedding")


def minilm_fields() -> SemanticFields:
    """The labelled fields embedded by MiniLM, kept in the cache folder. Raises BrokenCheckpoint, CacheUnusable."""
    from agent.words.embedder import load_embedder
    from agent.words.fields import SemanticFields
    from maps_engine.folders import cache_folder

    return SemanticFields(load_embedder(), cache_folder=cache_folder())


def open_judge(
    name: str,
    *,
    options: ModelOptions | None = None,
    fields: Callable[[], SemanticFields] = minilm_fields,
    relations: Callable[[], Sequence[Relation]] = load_relations,
) -> Judge:
    """The judge of that name: `lexical`, `embedding`, `auto` or a language model such as `openai:MODEL`.

    `fields` and `relations` are called when a question needs them. Raises UnknownDescriber, ExtraMissing, UserMistake.
    """
    chosen = chosen_name(name)
    if chosen in WITHOUT_MODEL:
        from eval.judges.embedding import EmbeddingJudge
        from eval.judges.lexical import LexicalJudge

        return (EmbeddingJudge if chosen == "embedding" else LexicalJudge)(fields, relations)
    from agent.llm.models import open_language_model
    from eval.judges.language_model import ModelJudge

    return ModelJudge(open_language_model(chosen, options=options))
