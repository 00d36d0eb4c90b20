"""A language model names the parts of a head: the question, the form of its answer, and the answer as descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from agent.describers.asking.answers import LONGEST_LABEL, Pattern, says_unclear, sentence
from agent.describers.asking.facts import parts_to_tell
from agent.describers.asking.prompting import as_data, filled, marked, retrieved_line, row_line
from agent.describers.asking.quotation import repeats_prompt
from agent.results.descriptions import Claim, HeadDescription
from agent.results.evidence import Evidence
from agent.words.spelling import core
from maps_engine.results import HeadPart

TEMPLATE: Final = "name_parts"
PART_ROWS: Final = 8


def _or_unclear(label: str) -> str:
    """One entry that is empty or repeats the question is no reason to lose the others."""
    return label if label and not repeats_prompt(label) else "unclear"


PartLabel = Annotated[str, Field(max_length=LONGEST_LABEL), AfterValidator(_or_unclear)]


class NamedPartAnswer(BaseModel):
    """What a language model says of one part, by its number from 1; `same_as` 0 for none."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    part: int
    same_as: int
    observed_pattern: Pattern
    operation: PartLabel
    confidence: int = Field(ge=0, le=10)


def parts_answer(n: int) -> type[BaseModel]:
    """The form of an answer on `n` parts: one entry each; where one model gives more, the first n are taken."""
    number, other = ((int, Field(ge=first, le=n)) for first in (1, 0))
    one = create_model("NamedPart", __base__=NamedPartAnswer, part=number, same_as=other)
    listed = Annotated[list[one], BeforeValidator(_first(n)), Field(max_length=n, json_schema_extra={"minItems": n})]  # type: ignore[valid-type]
    return create_model(f"PartsAnswer{n}", parts=(listed, ...))


def _first(n: int) -> Any:
    return lambda value: value[:n] if isinstance(value, list) else value


def parts_prompt(evidence: Evidence, parts: Sequence[HeadPart]) -> str:
    """The question about the first of a head's parts, which `parts` are."""
    shown = "\n\n".join(_part_block(place, part) for place, part in enumerate(parts, 1))
    hints = [hint for place in range(len(parts)) for hint in _hints(evidence, place)]
    return filled(
        TEMPLATE,
        n_parts=str(len(parts)),
        mark=marked(shown),
        parts=shown,
        hints="\n".join(hints) or "- none",
    )


def _part_block(number: int, part: HeadPart) -> str:
    common = ", ".join(as_data(one.token) for one in part.targets)
    head = f"part {number}, {part.share:.0%} of what the input adds; in common: {common}"
    return "\n".join([head, *map(row_line, part.rows[:PART_ROWS])])


def _hints(evidence: Evidence, place: int) -> list[str]:
    alike = evidence.retrieved_of_parts.get(place, ())
    counted = [one for one in evidence.part_classes if one.part == place]
    return [
        *([f"- part {place + 1} looks like: {retrieved_line(alike)}"] if alike else []),
        *(f"- part {place + 1}, counted: {one.label} ({one.k} of {one.n} outputs in common)" for one in counted),
    ]


def shown_words(evidence: Evidence, n: int) -> frozenset[str]:
    """The words that a question about the `n` largest parts shows, casefolded: none of them tests an answer."""
    rows = [row.token for part in parts_to_tell(evidence, n) for row in part.rows[:PART_ROWS]]
    alike = [s for place in range(n) for one in evidence.retrieved_of_parts.get(place, ()) for s, _ in one.examples]
    return frozenset(map(core, (*rows, *alike)))


def named_parts(
    answers: Sequence[NamedPartAnswer], parts: Sequence[HeadPart], *, raw: str, describer: str, settings: dict[str, Any]
) -> list[HeadDescription]:
    """One description of each part that is named, in their order.

    A part that is said to do the same as an earlier one has the words of that one, and a test of its own: what tests
    support of both is one operation afterwards (`agent.pipeline.head_operations`).
    """
    said: dict[int, NamedPartAnswer] = {}
    for one in sorted(answers, key=lambda answer: answer.part):
        if one.part in said:  # of two on one part the first counts
            continue
        earlier = said.get(one.same_as) if one.same_as < one.part else None
        said[one.part] = one if earlier is None or _is_unclear(earlier) else earlier
    return [
        _description(answer, number - 1, parts, raw=raw, describer=describer, settings=settings)
        for number, answer in said.items()
        if not _is_unclear(answer)
    ]


def _is_unclear(answer: NamedPartAnswer) -> bool:
    return says_unclear(answer.operation) or says_unclear(answer.observed_pattern)


def _description(
    answer: NamedPartAnswer,
    place: int,
    parts: Sequence[HeadPart],
    *,
    raw: str,
    describer: str,
    settings: dict[str, Any],
) -> HeadDescription:
    n = len(parts[place].rows[:PART_ROWS])
    return HeadDescription(
        status="ok",
        describer=describer,
        observed_pattern=answer.observed_pattern or sentence(answer.operation),
        operation=answer.operation,
        confidence=answer.confidence / 10,
        claims=(
            Claim("rows-shown", "rows shown to the describer", n, n),
            Claim("facts-shown", "facts told to the describer", 1, 1),  # what the part's words have in common
        ),
        raw_reply=raw,
        settings=settings,
        part=place,
    )
