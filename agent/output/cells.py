"""Cells of tables that people open in a spreadsheet, where a text may be taken for a formula and run."""

from __future__ import annotations

import re
from typing import Final

# OWASP, "CSV Injection": what a formula begins with. A spreadsheet may drop the blanks before it.
_FORMULA: Final = re.compile(r"\s*[=+\-@\t\r\n]")


def safe_cell(value: object) -> object:
    """`value` as a cell that no spreadsheet runs; only texts change.

    A text that begins with `=`, `+`, `-`, `@`, a tab or a line end, also after blanks, gets an apostrophe in front.
    NUL, at which some programs end a file, shows as U+2400.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\x00", "␀")
    return f"'{text}" if _FORMULA.match(text) else text
