"""The judge that goes by the cosine of MiniLM's sentence vectors alone; `eval.judges.protocol` says what it can see."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from agent.describers.protocol import Proposed
from agent.results.descriptions import HeadDescription
from agent.runs.identity import content_hash
from agent.words.known_pairs import label_of
from agent.words.spelling import core
from eval.judges.protocol import Assessment
from eval.judges.said import Said
from maps_engine.relations.catalogue import Relation
from maps_engine.results import MappingRow

if TYPE_CHECKING:
    from agent.words.embedder import Vectors
    from agent.words.fields import SemanticFields

VERSION: Final = 1  # of the ratings of both judges without a language model
NEAR_OPERATION: Final = 0.5  # cosine from which on a text is taken to mean a known relation
_COUNTS = re.compile(r"\((?:known pairs|[^()]*\d+ of \d+)[^()]*\)")


class EmbeddingJudge:
    """Cosine of texts. `fields` and `relations` are called when they are first needed."""

    name = "embedding"
    asks_a_model = False

    def __init__(self, fields: Callable[[], SemanticFields], relations: Callable[[], Sequence[Relation]]) -> None:
        self._open_fields, self._load_relations = fields, relations

    @cached_property
    def fields(self) -> SemanticFields:
        return self._open_fields()

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """The known relations whose pairs can be proposed."""
        return tuple(one for one in self._load_relations() if one.pairs and not one.identity)

    @property
    def settings(self) -> Mapping[str, Any]:
        known = content_hash([[one.name, one.description, one.pairs] for one in self.relations])[:12]
        return {"version": VERSION, "embedder": self.fields.embedder_name, "relations": known}

    def decides(self, said: Said) -> bool:
        """Never: a cosine of texts has no natural zero."""
        return False

    def rate_rows(self, said: Said, rows: Sequence[MappingRow]) -> list[float]:
        """(1 + cosine) / 2 of the description and each row."""
        texts = [f"{row.token.strip()} -> {', '.join(t.token.strip() for t in row.targets)}" for row in rows]
        return [float(value) for value in (1 + self._alike(said.text, texts)) / 2]

    find_intruder = rate_rows
    rate_targets = rate_rows

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed:
        """Pairs of the known relation whose name and sentence are nearest, where one is near."""
        texts = [f"{label_of(one.name)}. {one.description}" for one in self.relations]
        said = replace(Said.of(description), input_strings="")
        alike = self._alike(said.text, texts)
        best = int(alike.argmax()) if len(alike) else -1
        if best < 0 or alike[best] < NEAR_OPERATION:
            return Proposed(())
        left = set(excluded)
        pairs = [(s, t) for s, targets in self.relations[best].pairs if core(s) not in left for t in targets[:1]]
        return Proposed(tuple(pairs[:n]))

    def assess(self, said: Said, rows: Sequence[MappingRow], tested: Sequence[MappingRow] = ()) -> Assessment:
        """No answer: a study asks for yes or no, and a cosine has no value from which on it says yes."""
        return Assessment(why="cosines of texts put rows in order and decide nothing")

    def _alike(self, text: str, others: Sequence[str]) -> Vectors:
        """(n,) cosines of the text with each of the n others."""
        vectors = self.fields.vectors([_COUNTS.sub("", text), *others])
        alike: Vectors = vectors[1:] @ vectors[0]
        return alike
