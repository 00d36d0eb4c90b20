"""Plain help of a command: what it does, its subcommands, and its options in sections."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

LONGEST = 200  # characters about a command in a list of commands: its first sentence, whole


def _write_sections(command: TyperCommand | TyperGroup, context: Any, formatter: Any) -> None:
    """The options of a command: its own first, then those of each group under the group's title."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for one in command.get_params(context):
        usual = "Arguments" if one.param_type_name == "argument" else "Options"
        title = getattr(one, "rich_help_panel", None) or usual
        if (record := one.get_help_record(context)) is not None:
            sections.setdefault(title, []).append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Command(TyperCommand):
    """A command without subcommands."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """In sections."""
        _write_sections(self, ctx, formatter)


class Group(TyperGroup):
    """A command with subcommands."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """In sections, the commands first."""
        with formatter.section("Commands"):
            known = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
            formatter.write_dl([(name, one.get_short_help_str(LONGEST)) for name, one in known if one is not None])
        _write_sections(self, ctx, formatter)
