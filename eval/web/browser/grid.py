"""The layer x head grid: what each cell shows for the chosen metric, as classes, letters and words.

Colour is never alone: a category has its letter, a number its value in the cell's title and in the table twin. A head
that does things of several categories shows two, that of its recorded description first; its words tell all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.web.browser.browse_data import HeadLine, ModelGrid
from maps_engine.qk.kinds import KINDS, kinds, reading

STEPS = 9  # colours of the ramp, classes c0 … c8
BASIC = {
    "category": "categories of the operations",
    "status": "described, unclear or failed",
    "percentile": "test: percentile among heads",
    "score": "test: score of the description's own pairs",
    "confidence": "confidence of the describer",
    "salience": "strongest salience",
    "operations": "operations that a test supports",
}
ATTENTION = {
    "attention:kinds": "kind of attention",
    "attention:previous": "attention to the token before",
    "attention:self": "attention to the token itself",
    "attention:first": "attention to the first token",
    "attention:duplicate": "attention to the same word, read before",
    "attention:induction": "attention to what followed the same word",
}
FACES = 2  # of one cell
_KNOWN = ("algorithmic", "knowledge", "linguistic", "translation")


@dataclass(frozen=True)
class Face:
    """One colour with its letter."""

    look: str  # CSS class
    letter: str


@dataclass(frozen=True)
class Look:
    """What a cell shows: its value in words, and one face, or two side by side."""

    words: str
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class Cell:
    """One head in the grid."""

    layer: int
    head: int
    look: Look
    operation: str


@dataclass(frozen=True)
class Legend:
    """One entry: a face and what it means."""

    face: Face
    text: str


@dataclass(frozen=True)
class Grid:
    """Rows of cells from the last layer (top) to the first, with the legend."""

    metric: str
    title: str
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]
    n_heads: int
    legend: tuple[Legend, ...]


def metrics(page: ModelGrid) -> dict[str, str]:
    """What can be shown, by its name in the address."""
    relations = {f"relation:{name}": f"relation score: {name}" for name in page.relations}
    suppressed = {f"suppression:{name}": f"suppression score: {name}" for name in page.relations}
    attention = ATTENTION if any(line.attention for line in page.heads) else {}
    return BASIC | attention | relations | suppressed


def make_grid(page: ModelGrid, metric: str, values: Mapping[tuple[int, int], float] | None = None) -> Grid:
    """The grid for a metric; `values` holds the scores when the metric is a relation."""
    if metric == "category":
        looks, legend = _category_looks(page.heads)
    elif metric == "status":
        looks, legend = _status_looks(page.heads)
    elif metric == "operations":
        looks, legend = _count_looks([line.n_operations for line in page.heads])
    elif metric == "attention:kinds":
        looks, legend = _kind_looks([kinds(line.attention) if line.attention else () for line in page.heads])
    else:
        looks, legend = _number_looks(_numbers(page.heads, metric, values), metric)
    by_layer: dict[int, list[Cell]] = {}
    for line, look in zip(page.heads, looks, strict=True):
        by_layer.setdefault(line.layer, []).append(Cell(line.layer, line.head, look, line.operation))
    rows = tuple((layer, tuple(by_layer[layer])) for layer in sorted(by_layer, reverse=True))
    title = metrics(page)[metric] + _read_how(page, metric)
    return Grid(metric, title, rows, page.model.n_heads, tuple(legend))


def _read_how(page: ModelGrid, metric: str) -> str:
    """Of a relation: the length of the lists and the source that its scores were made with."""
    how = page.relations.get(metric.partition(":")[2])
    return "" if how is None else f", in the top {how.k}, source {how.source or 'unknown'}"


_UNCLEAR, _FAILED, _EMPTY = Face("is-unclear", "·"), Face("is-failed", "!"), Face("is-none", "")
_OTHERS = (Legend(_UNCLEAR, "unclear"), Legend(_FAILED, "failed"))
_NO_VALUE = Look("no value", (_EMPTY,))


def _other_look(line: HeadLine) -> Look:
    """Of a head without a description."""
    words = {"unclear": "unclear", "failed": "failed", "none": "no result yet"}[line.status]
    return Look(words, ({"unclear": _UNCLEAR, "failed": _FAILED, "none": _EMPTY}[line.status],))


def _category_looks(lines: Sequence[HeadLine]) -> tuple[list[Look], list[Legend]]:
    carried = [_categories(line) for line in lines]
    present = Counter(name for names in carried for name in names)
    faces = _category_faces(present)

    def look(line: HeadLine, names: Sequence[str]) -> Look:
        if not names:
            return _other_look(line)
        words = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        return Look(words, tuple(faces[name] for name in names[:FACES]))

    looks = [look(line, names) for line, names in zip(lines, carried, strict=True)]
    return looks, [*(Legend(faces[n], f"{n} ({present[n]})") for n in faces if n in present), *_OTHERS]


def _categories(line: HeadLine) -> tuple[str, ...]:
    """Of all that a described head does, each once, that of its recorded description first."""
    if line.status != "ok":
        return ()
    return tuple(dict.fromkeys((line.category or "other", *map(_category, line.others))))


def _category(operation: str) -> str:
    from agent.checks.categories import built_in_category  # torch: only where a head does more than one thing

    return built_in_category(operation)


def _category_faces(present: Iterable[str]) -> dict[str, Face]:
    """A colour and a letter of its own for each category, the paper's first."""
    faces: dict[str, Face] = {}
    for i, name in enumerate([*_KNOWN, *sorted(set(present) - set(_KNOWN))]):
        taken = {face.letter for face in faces.values()}
        free = [c for c in name.upper() + "XYZQJ" if c.isalpha() and c not in taken]
        faces[name] = Face(f"k{i % 8}", free[0] if free else "?")
    return faces


def _status_looks(lines: Sequence[HeadLine]) -> tuple[list[Look], list[Legend]]:
    described = Face("k2", "✓")
    looks = [Look("described", (described,)) if line.status == "ok" else _other_look(line) for line in lines]
    return looks, [Legend(described, "described"), *_OTHERS]


def _count_looks(counts: Sequence[int | None]) -> tuple[list[Look], list[Legend]]:
    """Whole numbers, each with an entry of its own in the legend."""
    present = Counter(n for n in counts if n is not None)
    most = max(present, default=0) or 1
    faces = {n: Face(f"c{(STEPS - 1) * n // most}", str(n)) for n in sorted(present)}
    looks = [_NO_VALUE if n is None else Look(str(n), (faces[n],)) for n in counts]
    legend = [Legend(face, f"{present[n]} head{'' if present[n] == 1 else 's'}") for n, face in faces.items()]
    return looks, [*legend, Legend(_EMPTY, "no value")]


def _kind_looks(of_heads: Sequence[Sequence[str]]) -> tuple[list[Look], list[Legend]]:
    """The most marked kinds of attention, with all of them in words."""
    faces = {kind: Face(f"k{i % 8}", kind[0].upper() if kind != "sink" else "F") for i, kind in enumerate(KINDS)}
    looks = [Look(", ".join(own), tuple(faces[kind] for kind in own[:FACES])) if own else _NO_VALUE for own in of_heads]
    present = Counter(kind for own in of_heads for kind in own)
    named = {"sink": "sink: the first token"}
    legend = [Legend(faces[kind], f"{named.get(kind, kind)} ({present[kind]})") for kind in KINDS if kind in present]
    return looks, [*legend, Legend(_EMPTY, "no value")]


def _numbers(
    lines: Sequence[HeadLine], metric: str, values: Mapping[tuple[int, int], float] | None
) -> list[float | None]:
    kind, _, name = metric.partition(":")
    if kind == "attention":
        return [reading(line.attention, name) if line.attention else None for line in lines]
    if values is not None:
        return [values.get((line.layer, line.head)) for line in lines]
    return [getattr(line, metric) for line in lines]


def _number_looks(given: Sequence[float | None], metric: str) -> tuple[list[Look], list[Legend]]:
    present = [v for v in given if v is not None]
    if not present:
        return [_NO_VALUE] * len(given), [Legend(_EMPTY, "no value")]
    low, high = (0.0, _ceiling(metric, present)) if metric != "salience" else (min(present), max(present))
    width = (high - low) or 1.0

    def look(value: float | None) -> Look:
        if value is None:
            return _NO_VALUE
        step = min(STEPS - 1, max(0, int((value - low) / width * STEPS)))
        if high > 10:
            return Look(f"{value:.1f}", (Face(f"c{step}", f"{value:.0f}"),))
        return Look(f"{value:.2f}", (Face(f"c{step}", "1" if value >= 0.995 else f"{value:.2f}".lstrip("0")),))

    digits = 0 if high > 10 else 2
    bounds = [low + width * step / STEPS for step in range(STEPS)]
    legend = [Legend(Face(f"c{i}", ""), f"from {b:.{digits}f}") for i, b in enumerate(bounds)]
    return [look(value) for value in given], [*legend, Legend(_EMPTY, "no value")]


def _ceiling(metric: str, present: Sequence[float]) -> float:
    if metric == "percentile":
        return 100.0
    return 1.0 if max(present) <= 1.0 else max(present)
