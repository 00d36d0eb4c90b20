"""Items of a study as tasks of Label Studio, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eval.rating.exchange.dump import DumpedItem, DumpedRating, DumpedStudy


def label_studio_task(about: DumpedStudy, item: DumpedItem) -> dict[str, Any]:
    """One Label Studio task: what to show in `data`, answers as choices and text areas."""
    description = item.content["description"]
    shown, tested = (
        [{"source": r["source"], "targets": " | ".join(r["targets"])} for r in item.content.get(name, ())]
        for name in ("rows", "tested_rows")
    )
    whole = item.model_dump(exclude={"ratings"})
    return {
        "data": {
            "rows": shown,
            "tested_rows": tested,
            "description": f"{description['input_strings']} {description['observed_pattern']}".strip(),
            "headscribe": {"study": about.model_dump(), **whole},
        },
        "annotations": [_annotation(rating) for rating in item.ratings],
    }


def _annotation(rating: DumpedRating) -> dict[str, Any]:
    result = [
        {"from_name": name, "to_name": "rows", "type": "choices", "value": {"choices": [value]}}
        for name, value in (("pattern", rating.pattern), ("plausible", rating.plausible))
        if value is not None
    ]
    result += [
        {"from_name": name, "to_name": "rows", "type": "textarea", "value": {"text": [value]}}
        for name, value in (("note", rating.note), ("skip_reason", rating.skip_reason))
        if value
    ]
    return {
        "completed_by": {"email": rating.rater, "first_name": rating.rater},
        "was_cancelled": rating.skip_reason is not None,
        "created_at": datetime.fromtimestamp(rating.created, UTC).isoformat(),
        "updated_at": datetime.fromtimestamp(rating.updated, UTC).isoformat(),
        "result": result,
        "meta": rating.model_dump(include={"judge", "counted", "version", "created", "updated", "history"}),
    }


def item_of_task(task: dict[str, Any]) -> DumpedItem:
    """An item with its answers from a task, ours or answered in Label Studio. Raises KeyError and ValueError."""
    known = {name: v for name, v in task["data"]["headscribe"].items() if name != "study"}
    return DumpedItem(**known, ratings=[_rating_of(given) for given in task.get("annotations", [])])


def _rating_of(given: dict[str, Any]) -> DumpedRating:
    said: dict[str, str] = {}
    for part in given.get("result", []):
        value = part["value"].get("choices") or part["value"].get("text") or [""]
        said[str(part["from_name"])] = value if isinstance(value, str) else str(value[0])
    answer = {name: said.get(name) for name in ("pattern", "plausible", "skip_reason")}
    if given.get("was_cancelled") and not answer["skip_reason"]:
        answer["skip_reason"] = "cancelled in Label Studio"
    meta = given.get("meta") or {}
    times = {name: _seconds(given.get(f"{name}_at")) for name in ("created", "updated")}
    return DumpedRating(rater=_name(given), note=said.get("note", ""), **(times | answer | meta))


def _name(given: dict[str, Any]) -> str:
    by = given.get("completed_by", "unknown")
    return str(by.get("email") or by.get("id")) if isinstance(by, dict) else str(by)


def _seconds(text: str | None) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
