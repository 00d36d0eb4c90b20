"""Studies as text in one of three formats.

CSV is for spreadsheets (one line per current answer; cells that a spreadsheet would run are defused). JSONL and
Label Studio JSON hold the whole study, history included, and can be read back by `eval.rating.exchange.imports`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Engine

from agent.output.cells import safe_cell
from eval.errors import BadImport
from eval.rating.answers import FinalRating, final_ratings
from eval.rating.exchange.dump import dump
from eval.rating.exchange.label_studio import label_studio_task

FORMATS = ("csv", "jsonl", "label-studio")
_ABOUT_ITEM = ["item", "kind", "model", "layer", "head", "describer", "category", "operation", "part", "claim"]
_ANSWER = ["rater", "judge", "pattern", "plausible", "note", "skip_reason"]
_STATE = ["counted", "version", "created", "updated", "input_strings", "observed_pattern"]
_COLUMNS = _ABOUT_ITEM + _ANSWER + _STATE


def export(engine: Engine, study_id: int, fmt: str) -> str:
    """The study in one of FORMATS. Raises BadImport for another format."""
    if fmt not in FORMATS:
        raise BadImport("unknown format", got=fmt, expected=", ".join(FORMATS))
    if fmt == "csv":
        return as_csv(final_ratings(engine, study_id))
    about, items = dump(engine, study_id)
    if fmt == "jsonl":
        first = json.dumps({"study": about.model_dump()})
        return "".join(line + "\n" for line in (first, *(json.dumps(item.model_dump()) for item in items)))
    return json.dumps([label_studio_task(about, item) for item in items], indent=1)


def as_csv(ratings: Iterable[FinalRating]) -> str:
    """Current answers, one a line, with the formula cells of hostile notes and tokens defused."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for r in ratings:
        values = asdict(r) | r.origin | r.content["description"]
        writer.writerow([safe_cell(values.get(name)) for name in _COLUMNS])
    return out.getvalue()
