"""What every judge offers, and which there are.

openai:MODEL …   a language model reads description and rows; the strongest form of every scorer.
lexical          no language model. A description that names a known relation, an operation of form, or one labelled
                 field to another is a claim, and a row is rated by the share of its targets that satisfy it. What the
                 claim leaves open (sources it does not know, ties) and free text is rated by MiniLM alone.
embedding        MiniLM alone: cosine of the description's text with "source -> targets". The weakest form: it sees
                 topics, hardly ever the relation between source and target.

By scorer, without a language model: detection and fuzzing take the rating of the row; the intruder is the row rated
lowest; simulation rates each candidate as a row of one target; generation takes the pairs that the named operation
predicts, or the pairs of the known relation whose text is nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent.results import HeadDescription
from eval.judges.said import Said
from maps_engine.results import MappingRow

if TYPE_CHECKING:
    from agent.llm.options import ModelOptions
    from agent.words.fields import SemanticFields
    from maps_engine.relations.catalogue import Relation

Rating = float | None  # 0 … 1, larger fits better; None for no usable answer
WITHOUT_MODEL = ("lexical", "embedding")


class Judge(Protocol):
    """Answers the scorers' questions about one description. Safe to use from several threads."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change its answers besides the question; never a key."""

    @property
    def asks_a_model(self) -> bool:
        """Whether an answer takes long enough to be worth keeping at once."""

    def decides(self, said: Said) -> bool:
        """Whether a rating of 0.5 means anything for this description, beyond the order of ratings."""

    def rate_rows(self, said: Said, rows: Sequence[MappingRow]) -> Sequence[Rating]:
        """How well each row fits."""

    def find_intruder(self, said: Said, rows: Sequence[MappingRow]) -> Sequence[Rating]:
        """The same for rows of which all but one fit: the intruder is rated lowest."""

    def rate_targets(self, said: Said, rows: Sequence[MappingRow]) -> Sequence[Rating]:
        """Rows of one source, each with one candidate: how strongly the head should promote it."""

    def propose_pairs(
        self, description: HeadDescription, *, n: int, excluded: Sequence[str]
    ) -> Sequence[tuple[str, str]]:
        """New pairs for a description that names no known operation; none where it cannot."""


def open_judge(name: str, *, fields: SemanticFields, relations: Sequence[Relation], options: ModelOptions) -> Judge:
    """The judge of that name: `lexical`, `embedding`, `auto` or a language model. Raises UserMistake."""
    from agent.describers.factory import chosen_name

    chosen = chosen_name(name)
    if chosen in WITHOUT_MODEL:
        from eval.judges.wordless_judges import EmbeddingJudge, LexicalJudge

        embedding = EmbeddingJudge(fields, relations)
        return embedding if chosen == "embedding" else LexicalJudge(fields, relations, embedding)
    from agent.llm.models import open_language_model
    from eval.judges.model_judge import ModelJudge

    return ModelJudge(open_language_model(chosen, options=options))
