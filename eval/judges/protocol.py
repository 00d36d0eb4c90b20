"""What every judge offers.

openai:MODEL …   a language model reads description and rows; the strongest form of every scorer.
lexical          no language model. A description that names a known relation, an operation of form, or one labelled
                 field to another is a claim, and a row is rated by the share of its targets that satisfy it. What the
                 claim leaves open (sources it does not know, ties) and free text is rated by MiniLM alone.
embedding        MiniLM alone: cosine of the description's text with "source -> targets". The weakest form: it sees
                 topics, hardly ever the relation between source and target.

By scorer, without a language model: detection and fuzzing take the rating of the row; the intruder is the row rated
lowest; simulation rates each candidate as a row of one target; generation takes the pairs that the named operation
predicts, or the pairs of the known relation whose text is nearest. In a rating study the lexical judge goes by form
alone, and the embedding judge gives no answer: its ratings have an order and no middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.describers.protocol import Proposed
from agent.results.descriptions import HeadDescription
from eval.judges.said import Said
from maps_engine.results import MappingRow

Rating = float | None  # 0 … 1, larger fits better; None for no usable answer


@dataclass(frozen=True, slots=True)
class Assessment:
    """Answers to the two questions of a rating study; without answers, `why` there are none."""

    pattern: str | None = None  # do the rows show a pattern: "yes" or "no"
    plausible: str | None = None  # is the description plausible: "yes", "partly", "no" or "cannot"
    why: str = ""


class Judge(Protocol):
    """Answers questions about one description. Safe to use from several threads.

    A language model raises BudgetSpent and DescriberDown from any question, ModelDown where no further one would fare
    better; an answer that cannot be used is a rating of None, never a zero.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]:
        """All that can change its ratings besides the question; never a key."""

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

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed:
        """Up to `n` new (source, target) pairs for a description that names no known operation; none where it cannot.

        excluded: sources, casefolded, that no pair may have.
        """

    def assess(self, said: Said, rows: Sequence[MappingRow], tested: Sequence[MappingRow] = ()) -> Assessment:
        """What a rating study asks people, from the same rows and words.

        `tested` are rows of words that the description is about; the pattern is judged without them.
        """
