"""The items of a study: what a rater sees of a head, and what must not be seen apart from it.

A control item shows the rows of one head with the description of another: its "plausible" rate is what raters
say of a description that is surely wrong, and the gap to the real items is what the study can show.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from agent.runs.identity import content_hash
from eval.errors import BadStudy
from eval.rating.heads.described import Head, Row

HAND_MADE = Path(__file__).with_name("hand_made.json")

Swap: TypeAlias = tuple[Head, Head]  # whose rows are shown, and whose description
Reread: TypeAlias = Callable[[Sequence[Swap]], list[tuple[Row, ...]]]  # the tested words of the second on the first


@dataclass(frozen=True)
class NewItem:
    """An item before it has a place in a study."""

    kind: str  # real | control | attention | practice
    content: dict[str, Any]
    origin: dict[str, Any]
    expected: dict[str, Any] | None = None

    @property
    def content_hash(self) -> str:
        return content_hash(self.content)


def real_items(heads: Sequence[Head], *, tested: bool) -> list[NewItem]:
    """One item for each description; `tested`: with rows of the words that it was tested on."""
    return [
        NewItem("real", _content(head.rows, head.description, head.tested if tested else ()), head.origin)
        for head in heads
    ]


def control_items(
    chosen: Sequence[Head],
    everybody: Sequence[Head],
    *,
    share: float,
    rng: random.Random,
    reread: Reread | None = None,
) -> list[NewItem]:
    """About `share` of len(chosen) items with swapped descriptions.

    Heads that are not in the study are preferred, and each stands there once before any stands there again, so that
    nobody sees the same rows twice. The description comes from another head and says nothing that the head of the
    item is known to do; where none exists there is no control item. `reread` reads the words that the description was
    tested on; without it no item shows any.
    """
    wanted = round(share * len(chosen))
    inside = {head.key for head in chosen}
    outside = [head for head in everybody if head.key not in inside]
    rng.shuffle(outside)
    others = rng.sample(list(chosen), len(chosen))
    swaps: list[Swap] = []
    for host in [*_each_head_first(outside), *_each_head_first(others)][:wanted]:
        untrue = host.says | host.does
        donors = [head for head in everybody if head.key != host.key and head.says.isdisjoint(untrue)]
        if donors:
            swaps.append((host, rng.choice(donors)))
    tested = reread(swaps) if reread else [()] * len(swaps)
    return [_swapped(host, donor, rows) for (host, donor), rows in zip(swaps, tested, strict=True)]


def _each_head_first(descriptions: Sequence[Head]) -> list[Head]:
    """One description of every head before the second of any, else in their order."""
    met: Counter[str] = Counter()
    turns: list[tuple[int, Head]] = []
    for one in descriptions:
        turns.append((met[one.key], one))
        met[one.key] += 1
    return [one for _, one in sorted(turns, key=lambda turn: turn[0])]


def _swapped(host: Head, donor: Head, tested: Sequence[Row]) -> NewItem:
    origin = host.origin | {"swapped_from": {k: donor.origin[k] for k in ("layer", "head")}}
    return NewItem("control", _content(host.rows, donor.description, tested), origin)


def _content(rows: Sequence[Row], description: dict[str, str], tested: Sequence[Row] = ()) -> dict[str, Any]:
    return {"rows": list(rows), "description": description} | ({"tested_rows": list(tested)} if tested else {})


def hand_made_items(kind: str, n: int) -> list[NewItem]:
    """The first `n` practice or attention items that come with the package."""
    given = json.loads(HAND_MADE.read_text(encoding="utf-8"))[kind]
    if n > len(given):
        raise BadStudy(f"too many {kind} items", got=n, expected=f"at most {len(given)}")
    return [_hand_made(kind, index, value) for index, value in enumerate(given[:n])]


def _hand_made(kind: str, index: int, value: dict[str, Any]) -> NewItem:
    rng = random.Random(f"{kind}{index}")
    rows = []
    for pair in value["pairs"].split():
        source, target = pair.split(":")
        rest = rng.sample(value["noise"], 4)
        rows.append({"source": " " + source, "targets": [" " + target, *(" " + word for word in rest)]})
    expected = value["expected"] | ({"feedback": value["feedback"]} if "feedback" in value else {})
    return NewItem(kind, _content(rows, value["description"]), {"hand_made": index}, expected)


def matches(expected: dict[str, Any] | None, pattern: str | None, plausible: str | None) -> bool:
    """Whether an answer is what a hand-made item expects; parts that it does not name do not matter."""
    wanted = expected or {}
    fits = "plausible" not in wanted or plausible in wanted["plausible"]
    return fits and (pattern is None or "pattern" not in wanted or pattern == wanted["pattern"])


def mixed_order(items: Sequence[NewItem], rng: random.Random) -> list[NewItem]:
    """Real and control items shuffled together, hand-made ones first."""
    is_regular: Callable[[NewItem], bool] = lambda item: item.kind in ("real", "control")  # noqa: E731
    regular = [item for item in items if is_regular(item)]
    rng.shuffle(regular)
    return [item for item in items if not is_regular(item)] + regular
