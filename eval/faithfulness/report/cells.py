"""Numbers as the cells of tables and the sentences of reports show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def small(p: float | None) -> str:
    """A p value: three digits, or its order of magnitude."""
    if p is None:
        return "–"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p > 0 else "< 1e-300"


def interval(value: Row | None) -> str:
    """`0.71 [0.60, 0.80]`."""
    if value is None or value["value"] is None:
        return "–"
    if value["low"] is None:
        return number(value["value"])
    return f"{number(value['value'])} [{number(value['low'])}, {number(value['high'])}]"


def lead(one: Row | None) -> str:
    """A difference with its interval: `+0.012 [-0.003, +0.030]`."""
    return "–" if one is None else f"{one['value']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]"
