"""Evidence to a prompt, and a reply to a checked description: the same for every language model.

Tokens are data: quoted as JSON strings with control, direction and zero-width characters escaped, between lines
whose mark is a hash of the rows themselves, so that no token can close the block.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.results import Claim, Evidence, HeadDescription, Retrieved
from maps_engine.results import MappingRow
from prompts import load_prompts

PROMPT = "describe"


class Reply(BaseModel):
    """What a language model is asked for; checked again here whatever the endpoint promises."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    reasoning: str = Field(max_length=4000)
    input_strings: str = Field(max_length=1000)
    observed_pattern: str = Field(max_length=1000)
    operation: str = Field(min_length=1, max_length=200)
    confidence: int = Field(ge=0, le=10)


class BadReply(ValueError):
    """A reply that is no JSON, or JSON of another shape."""


def reply_schema() -> dict[str, Any]:
    """The JSON schema sent to endpoints that can constrain their output; bounds as enums, which grammars keep."""
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "reasoning": text | {"maxLength": 1200},
            "input_strings": text | {"maxLength": 300},
            "observed_pattern": text | {"maxLength": 300},
            "operation": text | {"maxLength": 80},
            "confidence": {"type": "integer", "enum": list(range(11))},
        },
        "required": ["reasoning", "input_strings", "observed_pattern", "operation", "confidence"],
        "additionalProperties": False,
    }


def describe_prompt(evidence: Evidence) -> str:
    """The filled prompt for one head."""
    rows = "\n".join(map(_row_line, evidence.rows))
    return (
        load_prompts()
        .templates[PROMPT]
        .fill(
            n_rows=str(len(evidence.rows)),
            mark=hashlib.sha256(rows.encode("utf-8", "backslashreplace")).hexdigest()[:8],
            rows=rows,
            retrieved=_retrieved_line(evidence.retrieved),
        )
    )


def as_data(token: str) -> str:
    """The token as a JSON string in which nothing invisible is left."""
    quoted = json.dumps(token, ensure_ascii=False)
    return "".join(
        c if unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in {"Zl", "Zp"} else _escaped(c)
        for c in quoted
    )


def parse_reply(text: str, *, describer: str, settings: dict[str, Any], n_rows: int) -> HeadDescription:
    """The description in a reply; BadReply when there is none."""
    try:
        reply = Reply.model_validate(first_object(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadReply(f"{'.'.join(map(str, first['loc'])) or 'reply'}: {first['msg']}") from error
    unclear = any(re.fullmatch(r"[\W_]*unclear[\W_]*", t, re.I) for t in (reply.operation, reply.observed_pattern))
    return HeadDescription(
        status="unclear" if unclear else "ok",
        describer=describer,
        input_strings=reply.input_strings,
        observed_pattern=reply.observed_pattern,
        operation="unclear" if unclear else reply.operation,
        confidence=0.0 if unclear else reply.confidence / 10,
        reasoning=reply.reasoning,
        claims=(Claim("rows-shown", "rows shown to the describer", n_rows, n_rows),),
        reason="the describer saw no pattern" if unclear else "",
        raw_reply=text,
        settings=settings,
    )


def first_object(text: str) -> Any:
    """The first JSON object in the text, fences and talk around it aside."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", text)):
        try:
            found, _ = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    raise BadReply("no JSON object in the reply" if text.strip() else "the reply is empty")


def _row_line(row: MappingRow) -> str:
    return f"{as_data(row.token)} -> {', '.join(as_data(t.token) for t in row.targets)}"


def _retrieved_line(retrieved: Sequence[Retrieved]) -> str:
    shown = [
        f"{one.operation} (for example {'; '.join(f'{s} -> {t}' for s, t in one.examples[:2])})"
        if one.examples
        else one.operation
        for one in retrieved
    ]
    return ", ".join(shown) or "none"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
