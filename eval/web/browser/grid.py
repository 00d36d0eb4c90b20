"""The layer x head grid: what each cell shows for the chosen metric, as classes, letters and words.

Colour is never alone: a category has its letter, a number its value in the cell's title and in the table twin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.web.browser.browse_data import HeadLine, ModelGrid

STEPS = 9  # colours of the ramp, classes c0 … c8
BASIC = {
    "category": "category of the operation",
    "status": "described, unclear or failed",
    "percentile": "test: percentile among heads",
    "score": "test: score of the description's own pairs",
    "confidence": "confidence of the describer",
    "salience": "strongest salience",
}
_KNOWN = ("algorithmic", "knowledge", "linguistic", "translation")


@dataclass(frozen=True)
class Cell:
    """One head in the grid."""

    layer: int
    head: int
    look: str  # CSS classes
    letter: str
    words: str  # value in words, for titles and the table
    operation: str


@dataclass(frozen=True)
class Legend:
    """One entry: the look of a cell and what it means."""

    look: str
    letter: str
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
    return BASIC | relations | suppressed


def make_grid(page: ModelGrid, metric: str, values: Mapping[tuple[int, int], float] | None = None) -> Grid:
    """The grid for a metric; `values` holds the scores when the metric is a relation."""
    if metric == "category":
        looks, legend = _category_looks(page.heads)
    elif metric == "status":
        looks, legend = _status_looks(page.heads)
    else:
        looks, legend = _number_looks(page.heads, metric, values)
    by_layer: dict[int, list[Cell]] = {}
    for line, (look, letter, words) in zip(page.heads, looks, strict=True):
        cell = Cell(line.layer, line.head, look, letter, words, line.operation)
        by_layer.setdefault(line.layer, []).append(cell)
    rows = tuple((layer, tuple(by_layer[layer])) for layer in sorted(by_layer, reverse=True))
    title = metrics(page)[metric] + _read_how(page, metric)
    return Grid(metric, title, rows, page.model.n_heads, tuple(legend))


def _read_how(page: ModelGrid, metric: str) -> str:
    """Of a relation: the length of the lists and the source that its scores were made with."""
    how = page.relations.get(metric.partition(":")[2])
    return "" if how is None else f", in the top {how.k}, source {how.source or 'unknown'}"


_Look = tuple[str, str, str]


def _other_looks(line: HeadLine) -> _Look:
    words = {"unclear": "unclear", "failed": "failed", "none": "no result yet"}[line.status]
    return f"is-{line.status}", {"unclear": "·", "failed": "!", "none": ""}[line.status], words


_OTHERS = (
    Legend("is-unclear", "·", "unclear"),
    Legend("is-failed", "!", "failed"),
)


def _category_looks(lines: Sequence[HeadLine]) -> tuple[list[_Look], list[Legend]]:
    present = Counter(line.category or "other" for line in lines if line.status == "ok")
    rest = sorted(set(present) - set(_KNOWN))
    number = {name: i for i, name in enumerate([*_KNOWN, *rest])}
    letters: dict[str, str] = {}
    for name in number:
        free = [c for c in name.upper() + "XYZQJ" if c.isalpha() and c not in letters.values()]
        letters[name] = free[0] if free else "?"

    def look(line: HeadLine) -> _Look:
        if line.status != "ok":
            return _other_looks(line)
        name = line.category or "other"
        return f"k{number[name] % 8}", letters[name], name

    legend = [
        Legend(f"k{number[name] % 8}", letters[name], f"{name} ({present[name]})") for name in number if name in present
    ]
    return [look(line) for line in lines], [*legend, *_OTHERS]


def _status_looks(lines: Sequence[HeadLine]) -> tuple[list[_Look], list[Legend]]:
    def look(line: HeadLine) -> _Look:
        return ("k2", "✓", "described") if line.status == "ok" else _other_looks(line)

    return [look(line) for line in lines], [Legend("k2", "✓", "described"), *_OTHERS]


def _number_looks(
    lines: Sequence[HeadLine], metric: str, values: Mapping[tuple[int, int], float] | None
) -> tuple[list[_Look], list[Legend]]:
    given: list[float | None]
    if values is not None:
        given = [values.get((line.layer, line.head)) for line in lines]
    else:
        given = [getattr(line, metric) for line in lines]
    present = [v for v in given if v is not None]
    if not present:
        return [("is-none", "", "no value")] * len(lines), [Legend("is-none", "", "no value")]
    low, high = (0.0, _ceiling(metric, present)) if metric != "salience" else (min(present), max(present))
    width = (high - low) or 1.0

    def look(value: float | None) -> _Look:
        if value is None:
            return "is-none", "", "no value"
        step = min(STEPS - 1, max(0, int((value - low) / width * STEPS)))
        if high > 10:
            return f"c{step}", f"{value:.0f}", f"{value:.1f}"
        return f"c{step}", "1" if value >= 0.995 else f"{value:.2f}".lstrip("0"), f"{value:.2f}"

    digits = 0 if high > 10 else 2
    bounds = [low + width * step / STEPS for step in range(STEPS)]
    legend = [Legend(f"c{i}", "", f"from {b:.{digits}f}") for i, b in enumerate(bounds)]
    return [look(value) for value in given], [*legend, Legend("is-none", "", "no value")]


def _ceiling(metric: str, present: Sequence[float]) -> float:
    if metric == "percentile":
        return 100.0
    return 1.0 if max(present) <= 1.0 else max(present)
