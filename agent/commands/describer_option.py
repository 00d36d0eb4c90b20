"""The option that names who describes heads, for the commands that describe any."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.commands.command_line import words
from agent.describers.factory import BEGINNINGS, NAMES

Describer = Annotated[
    str,
    typer.Option("--describer", help=f"{NAMES}.", envvar="HEADSCRIBE_DESCRIBER", autocompletion=words(BEGINNINGS)),
]
