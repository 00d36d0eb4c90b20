"""What a rater sees of a head, where it comes from, and how heads are chosen for a study.

A control item shows the rows of one head with the description of another: its "plausible" rate is what raters
say of a description that is surely wrong, and the gap to the real items is what the study can show.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Engine

from agent.runs.identity import content_hash
from agent.runs.stored import StoredHead, stored_heads
from eval.errors import BadImport, BadStudy
from maps_engine.results import MappingRow

HAND_MADE = Path(__file__).with_name("hand_made.json")
MAX_ROWS = 30
MAX_TARGETS = 5
MAX_TESTED_TARGETS = 10  # of words that a description was tested on: as many as its test looks at
_ORIGIN = ("model", "fingerprint", "layer", "head", "run", "describer", "category", "operation")

Row: TypeAlias = dict[str, Any]  # {"source": str, "targets": [str, …]}


@dataclass(frozen=True)
class Head:
    """A described head that can become an item."""

    rows: tuple[Row, ...]
    description: dict[str, str]  # input_strings, observed_pattern
    origin: dict[str, Any]  # model, fingerprint, layer, head, run, describer, category, operation
    tested: tuple[Row, ...] = ()  # of words that the description was tested on
    tested_ids: tuple[int, ...] = ()  # tokens of `tested`

    @property
    def layer(self) -> int:
        return int(self.origin["layer"])

    @property
    def key(self) -> str:
        """The head itself, whatever describes it: for the order of things and for swaps."""
        return f"{self.origin['fingerprint']}/{self.layer}/{self.origin['head']}"


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


def described_heads(engine: Engine, run_id: int) -> list[Head]:
    """The heads of a run whose description is `ok`. Raises UnknownRun."""
    return [_head_of(one) for one in stored_heads(engine, run_id) if one.status == "ok"]


def heads_from_jsonl(lines: Iterable[str]) -> list[Head]:
    """Heads from another tool: one object a line with model, layer, head, rows and a description.

    `rows` are `{"token": …, "targets": […]}` with targets as texts or `{"token": …}`; the description is
    `observed_pattern` (with `input_strings`) or one text `description`. Raises BadImport with the line.
    """
    heads = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            heads.append(_imported(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadImport(
                f"line {number} is not a described head",
                got=f"{type(error).__name__}: {error}",
                expected="an object with model, layer, head, rows, and description or observed_pattern",
            ) from error
    return heads


def _head_of(stored: StoredHead) -> Head:
    rows = tuple(_row(row.token, [target.token for target in row.targets]) for row in stored.rows[:MAX_ROWS])
    description = {"input_strings": stored.input_strings, "observed_pattern": stored.observed_pattern}
    tested = [one.row for one in stored.test.tested_rows] if stored.test else []
    origin = {name: getattr(stored, name) for name in _ORIGIN}
    return Head(rows, description, origin, tuple(map(row_of, tested)), tuple(row.token_id for row in tested))


def _imported(given: dict[str, Any]) -> Head:
    text = given.get("observed_pattern") or given["description"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the description must be a text")
    origin = {
        "model": str(given["model"]),
        "fingerprint": str(given.get("fingerprint", given["model"])),
        "layer": int(given["layer"]),
        "head": int(given["head"]),
        "run": given.get("run"),
        "describer": str(given.get("describer", "imported")),
        "category": given.get("category"),
        "operation": str(given.get("operation", "")),
    }
    rows = [_row(str(row["token"]), [_token(target) for target in row["targets"]]) for row in given["rows"]]
    description = {"input_strings": str(given.get("input_strings", "")), "observed_pattern": text}
    return Head(tuple(rows[:MAX_ROWS]), description, origin)


def row_of(row: MappingRow) -> Row:
    """A row of a tested word as a rater sees it."""
    return {"source": row.token, "targets": [target.token for target in row.targets[:MAX_TESTED_TARGETS]]}


def _row(token: str, targets: list[str]) -> Row:
    return {"source": token, "targets": targets[:MAX_TARGETS]}


def _token(given: str | dict[str, Any]) -> str:
    return given if isinstance(given, str) else str(given["token"])


def choose_heads(
    heads: Sequence[Head], *, n: int | None, layers: range | None, stratify: bool, rng: random.Random
) -> list[Head]:
    """Up to `n` heads of `layers` (None: all), evenly by layer when `stratify`; the same seed, the same choice."""
    pool = sorted((h for h in heads if layers is None or h.layer in layers), key=lambda h: h.key)
    if not pool:
        raise BadStudy("no described head fits the filter", got=f"{len(heads)} heads before the filter")
    rng.shuffle(pool)
    if n is None or n >= len(pool):
        return pool
    return _stratified(pool, n) if stratify else pool[:n]


def _stratified(pool: Sequence[Head], n: int) -> list[Head]:
    """Round robin over layers until n are taken."""
    by_layer: dict[int, list[Head]] = defaultdict(list)
    for head in pool:
        by_layer[head.layer].append(head)
    chosen: list[Head] = []
    depth = 0
    while len(chosen) < n:
        chosen += [layer[depth] for _, layer in sorted(by_layer.items()) if len(layer) > depth]
        depth += 1
    return chosen[:n]


def real_items(heads: Sequence[Head], *, tested: bool) -> list[NewItem]:
    """One item per head, as described; `tested`: with rows of the words that its description was tested on."""
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

    Heads that are not in the study are preferred, so that nobody sees the same rows twice. The description comes
    from a head with another operation; where none exists there is no control item. `reread` reads the words that the
    description was tested on; without it no item shows any.
    """
    wanted = round(share * len(chosen))
    inside = {head.key for head in chosen}
    outside = [head for head in everybody if head.key not in inside]
    rng.shuffle(outside)
    hosts = [*outside, *rng.sample(list(chosen), len(chosen))][:wanted]
    swaps: list[Swap] = []
    for host in hosts:
        others = [h for h in everybody if h.key != host.key and _meaning(h) != _meaning(host)]
        if others:
            swaps.append((host, rng.choice(others)))
    tested = reread(swaps) if reread else [()] * len(swaps)
    return [_swapped(host, donor, rows) for (host, donor), rows in zip(swaps, tested, strict=True)]


def _swapped(host: Head, donor: Head, tested: Sequence[Row]) -> NewItem:
    origin = host.origin | {"swapped_from": {k: donor.origin[k] for k in ("layer", "head")}}
    return NewItem("control", _content(host.rows, donor.description, tested), origin)


def _meaning(head: Head) -> tuple[str, str]:
    text = head.description["observed_pattern"].casefold().strip()
    return (str(head.origin.get("operation") or "").casefold(), text)


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
