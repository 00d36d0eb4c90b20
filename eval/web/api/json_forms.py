"""Plain JSON forms of what the pages show, shared by the `.json` twins and the API."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

from starlette.responses import JSONResponse

from agent.results.attention_values import attention_numbers, attention_values
from agent.results.token_values import row_values
from agent.runs.head_rows import constant_values, part_values, view_values
from agent.runs.stored import StoredHead
from eval.web.browser.browse_data import HeadLine, ModelLine
from eval.web.browser.head_data import HeadDetail
from maps_engine.qk.kinds import kinds


class AsciiJson(JSONResponse):
    """JSON in ASCII: tokens with lone surrogates are legal there and would break UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def model_json(line: ModelLine) -> dict[str, Any]:
    """A model with its newest run."""
    values = asdict(line)
    del values["model_id"]
    return values


def line_json(line: HeadLine) -> dict[str, Any]:
    """A head in a list; of what it attends to, the kinds and the numbers but for the profile."""
    values = {field.name: getattr(line, field.name) for field in fields(line)}
    if line.attention:
        numbers = attention_numbers(line.attention)
        del numbers["profile"], numbers["fits"]
        values["attention"] = {"kinds": list(kinds(line.attention))} | numbers
    return values


def head_json(d: HeadDetail) -> dict[str, Any]:
    """One head with its evidence."""
    return {
        "model": d.model.name,
        "slug": d.model.slug,
        "fingerprint": d.model.fingerprint,
        "run": d.run.run_id,
        "layer": d.line.layer,
        "head": d.line.head,
        "status": d.line.status,
        "source": d.source,
        "rows": row_values(d.rows),
        "suppressed_rows": row_values(d.suppressed_rows),
        "same_tokens": view_values(d.stored.same_tokens),
        "constant": constant_values(d.stored.constant),
        "parts": part_values(d.stored.parts),
        "undertrained": list(d.stored.undertrained),
        "account": d.stored.account,
        "attention": attention_values(d.stored.attention),
        "description": _description_json(d.said) if d.said else None,
        "test": d.test.to_json() if d.test else None,
        "tested_rows": d.test.rows_to_json() if d.test else [],
        "scores": [one.to_json() | {"same_operation": one.same_operation} for one in d.scores],
        "relations": [asdict(one) for one in d.relations],
        "similar": [asdict(one) for one in d.similar],
        "provenance": d.run.settings,
    }


def _description_json(said: StoredHead) -> dict[str, Any]:
    names = ("status", "operation", "category", "input_strings", "observed_pattern", "confidence", "reasoning")
    return {name: getattr(said, name) for name in names} | {
        "reason": said.reason,
        "raw_reply": said.raw_reply,
        "claims": [asdict(one) | {"counted": one.counted} for one in said.claims],
        "retrieved": [asdict(one) for one in said.retrieved],
        "provenance": dict(said.provenance),
        "operations": [one.to_json() for one in said.operations],
        "created": said.created,
    }
