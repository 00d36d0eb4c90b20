"""What makes a function one of headscribe's commands: plain help in sections, `--debug` and `--version`, options that
several commands share, and one-line errors.

A command's parameters are typer's, except that one may be a dataclass derived from `OptionGroup`: each of its fields
is then an option of the command, listed in the help under the title of the group, and the command receives an instance.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, TypeVar, cast, get_args, get_origin, get_type_hints

import typer

from agent.commands.help_page import Command, Group
from agent.output.console import echo_json, inert, one_line_errors, quiet_libraries

Handler = TypeVar("Handler", bound=Callable[..., None])


@dataclass(frozen=True)
class OptionGroup:
    """Base of the dataclasses whose fields are options.

    A field is annotated as a parameter of typer would be, and it has a default.
    """

    title: ClassVar[str]  # of the section of the help


def command_line(**settings: Any) -> typer.Typer:
    """An app that shows plain help; completion can be installed."""
    return typer.Typer(
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **{"cls": Group, **settings},
    )


def command(app: typer.Typer, name: str | None = None, *, line: str | None = None) -> Callable[[Handler], Handler]:
    """Make a function a command of `app`, listed there with `line`, else with the beginning of its docstring.

    The function itself stays as it is, so that several apps can have it.
    """

    def register(handler: Handler) -> Handler:
        app.command(name, cls=Command, short_help=line)(_as_typer_reads_it(handler))
        return handler

    return register


def main_command(app: typer.Typer) -> Callable[[Handler], Handler]:
    """The same for what `app` does when no subcommand is named; the function asks its typer.Context whether one is."""

    def register(handler: Handler) -> Handler:
        app.callback(invoke_without_command=True)(_as_typer_reads_it(handler))
        return handler

    return register


def group_of_commands(help_text: str, *, cls: type[Group] = Group) -> typer.Typer:
    """An app that only has subcommands: alone it shows its help."""
    app = command_line(no_args_is_help=True, help=help_text, cls=cls)

    @app.callback()
    def with_version(version: Version = False) -> None:
        """Only `--version`, which ends by itself."""

    return app


def say(*lines: str, value: object, as_json: bool) -> None:
    """What a command did: in words, one inert line each, or with --json as `value`."""
    if as_json:
        echo_json(value)
    else:
        typer.echo("\n".join(inert(line).plain for line in lines))


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headscribe {version('headscribe')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_say_version)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _as_typer_reads_it(handler: Callable[..., None]) -> Callable[..., None]:
    """A function with one parameter an option, which calls `handler` with its groups; errors end it as one line."""
    wanted = inspect.signature(handler, eval_str=True).parameters
    groups = {name: one.annotation for name, one in wanted.items() if _is_group(one.annotation)}
    parameters = [
        part for name, one in wanted.items() for part in (_options(groups[name]) if name in groups else [one])
    ]
    parameters.append(_parameter("debug", Debug, False))

    def run(*, debug: bool, **given: Any) -> None:
        quiet_libraries()
        with one_line_errors(debug=debug):
            for name, group in groups.items():
                given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
            handler(**given)

    run.__name__, run.__doc__ = handler.__name__, handler.__doc__
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    vars(run)["__signature__"] = inspect.Signature(keyword_only)
    return run


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, OptionGroup)


def _options(group: type[OptionGroup]) -> Iterator[inspect.Parameter]:
    """The fields of a group as parameters of typer, in the section of that group."""
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        if get_origin(hints[field.name]) is not Annotated:
            raise TypeError(f"{group.__name__}.{field.name} is not annotated as an option")
        plain, info = get_args(hints[field.name])
        info = copy.copy(info)
        info.rich_help_panel = group.title
        yield _parameter(field.name, cast(Any, Annotated)[plain, info], field.default)


def _parameter(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
