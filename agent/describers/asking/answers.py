"""Forms of a language model's answers, and a validated answer as a description."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from agent.describers.asking.quotation import repeats_prompt
from agent.llm.structured_output import ECHO
from agent.results.descriptions import Claim, HeadDescription

MAX_PROPOSED: Final = 30  # a small model takes half a second for one
LONGEST_REASONING: Final = 800  # characters: where a schema is enforced, small models fill what they are given
LONGEST_FIELD: Final = 500
LONGEST_LABEL: Final = 120
FEWEST_PROPOSED: Final = 16  # pairs that a schema asks for; fewer are taken, and some are lost before the test


def _cut_reasoning(value: Any) -> Any:
    """Cut instead of refused: a model that is held to no schema may reason at length, and no test reads it."""
    return value[:LONGEST_REASONING] if isinstance(value, str) else value


def _not_echoed(text: str) -> str:
    """`text`, unless it repeats what a prompt says to every model about every head."""
    repeated = repeats_prompt(text)
    if repeated:
        told = "this repeats the question ({repeated}); say what this head does, by its own rows"
        raise PydanticCustomError(ECHO, told, {"repeated": repr(repeated)})
    return text


def _own_words(text: str) -> str:
    """A sentence that only repeats the question is left out: the label is what is tested."""
    return "" if repeats_prompt(text) else text


Reasoning = Annotated[str, BeforeValidator(_cut_reasoning), Field(max_length=LONGEST_REASONING)]


Pattern = Annotated[str, Field(max_length=LONGEST_FIELD), AfterValidator(_own_words)]
Label = Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL), AfterValidator(_not_echoed)]


class DescribeAnswer(BaseModel):
    """What a language model says of a head."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    reasoning: Reasoning
    input_strings: Pattern
    observed_pattern: Pattern
    operation: Label
    confidence: int = Field(ge=0, le=10)


class ReviseAnswer(BaseModel):
    """What it says once it knows how its description did."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    reasoning: Reasoning
    decision: Literal["keep", "change", "withdraw"]
    input_strings: Pattern
    observed_pattern: Pattern
    operation: Label
    confidence: int = Field(ge=0, le=10)


class ProposedPair(BaseModel):
    """One new example."""

    source: str = Field(max_length=60)
    target: str = Field(max_length=60)


def _first_pairs(value: Any) -> Any:
    """More than were asked for are no reason to ask again."""
    return value[:MAX_PROPOSED] if isinstance(value, list) else value


class PairsAnswer(BaseModel):
    """New examples of an operation; `exact` where spacing and capital letters count."""

    exact: bool = False
    pairs: Annotated[list[ProposedPair], BeforeValidator(_first_pairs)] = Field(
        max_length=MAX_PROPOSED, json_schema_extra={"minItems": FEWEST_PROPOSED}
    )


def described(
    answer: DescribeAnswer | ReviseAnswer,
    *,
    raw: str,
    describer: str,
    settings: dict[str, Any],
    n_rows: int,
    n_facts: int = 0,
) -> HeadDescription:
    """The description in a validated answer; "unclear" in label or pattern, or a withdrawal, makes it unclear.

    n_facts: how many facts it was told that were counted on words besides the rows.
    """
    withdrawn = isinstance(answer, ReviseAnswer) and answer.decision == "withdraw"
    unclear = withdrawn or any(map(says_unclear, (answer.operation, answer.observed_pattern)))
    return HeadDescription(
        status="unclear" if unclear else "ok",
        describer=describer,
        input_strings=answer.input_strings,
        observed_pattern="Unclear." if withdrawn else answer.observed_pattern or sentence(answer.operation),
        operation="unclear" if unclear else answer.operation,
        confidence=0.0 if unclear else answer.confidence / 10,
        reasoning=answer.reasoning,
        claims=(
            Claim("rows-shown", "rows shown to the describer", n_rows, n_rows),
            *([Claim("facts-shown", "facts told to the describer", n_facts, n_facts)] if n_facts else []),
        ),
        reason="withdrawn by the describer" if withdrawn else "the describer saw no pattern" if unclear else "",
        raw_reply=raw,
        settings=settings,
    )


def sentence(label: str) -> str:
    return f"{label[:1].upper()}{label[1:]}."


def says_unclear(text: str) -> bool:
    return re.fullmatch(r"[\W_]*unclear[\W_]*", text, re.I) is not None
