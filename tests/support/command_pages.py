"""`docs/commands.md`: the help of every command, as the commands themselves print it.

python -m tests.support.command_pages            # says whether the file is up to date
python -m tests.support.command_pages --write    # renews it
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from eval.commands.headscribe import app

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "commands.md"
WIDTH = 100  # columns of the help
RENEW = "python -m tests.support.command_pages --write"
HEAD = f"""# Commands

The help of every command, written by `{RENEW}` (or `make docs`).
Scripts of their own besides `headscribe` itself: {{scripts}}.
"""


def commands(command: Any = None, path: tuple[str, ...] = ("headscribe",), parent: Any = None) -> Iterator[Any]:
    """The context of every command, a group before its subcommands, in the order in which help lists them."""
    command = command or typer.main.get_command(app)
    context = typer.Context(
        command, info_name=path[-1], parent=parent, terminal_width=WIDTH, help_option_names=["-h", "--help"]
    )
    yield context
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name), context)


def scripts() -> tuple[str, ...]:
    """The commands that are installed as scripts of their own."""
    return tuple(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"])


def pages() -> str:
    """The whole file."""
    parts = [HEAD.format(scripts=", ".join(f"`{name}`" for name in scripts() if name != "headscribe"))]
    for context in commands():
        help_text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
        parts.append(f"## {context.command_path}\n\n```text\n{help_text}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """0 where the file is up to date or was written, 1 where it is not."""
    if "--write" in sys.argv[1:]:
        PAGES.write_text(pages(), encoding="utf-8")
        return 0
    if PAGES.is_file() and PAGES.read_text(encoding="utf-8") == pages():
        return 0
    sys.stderr.write(f"{PAGES.name} is out of date; renew it: {RENEW}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
