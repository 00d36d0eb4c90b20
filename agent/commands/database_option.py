"""Options that the commands around the database of runs share."""

from __future__ import annotations

from typing import Annotated

import typer

Database = Annotated[
    str | None,
    typer.Option("--database", help="SQLite file or postgresql:// address.", envvar="HEADSCRIBE_DATABASE"),
]
