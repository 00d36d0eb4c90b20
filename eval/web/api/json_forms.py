"""Plain JSON forms of what the pages show, shared by the `.json` twins and the API."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse

from eval.web.browser.browse_data import HeadLine, ModelLine, RunLine
from eval.web.browser.head_data import HeadDetail


class AsciiJson(JSONResponse):
    """JSON in ASCII: tokens with lone surrogates are legal there and would break UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def model_json(line: ModelLine) -> dict[str, Any]:
    """A model with its newest run."""
    values = asdict(line)
    del values["model_id"]
    return values


def run_json(run: RunLine) -> dict[str, Any]:
    """A run."""
    return asdict(run)


def line_json(line: HeadLine) -> dict[str, Any]:
    """A head in a list."""
    return asdict(line)


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
        "source_choice": asdict(d.source_choice) if d.source_choice else None,
        "rows": d.rows,
        "suppressed_rows": d.suppressed_rows,
        "description": d.said,
        "test": d.test,
        "scores": d.scores,
        "relations": d.relations,
        "similar": [asdict(s) for s in d.similar],
        "provenance": d.run.settings,
    }
