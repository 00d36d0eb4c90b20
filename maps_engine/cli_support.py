"""What all commands share: one-line errors with exit codes, JSON on standard output, a console for people.

Import of this module is cheap; commands import torch and the rest inside their handlers so that `--help` is instant.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from maps_engine.errors import HeadscribeError

Handler = TypeVar("Handler", bound=Callable[..., None])


def one_line_errors(handler: Handler) -> Handler:
    """Turn our errors into one line and an exit code; `debug=True` among the options lets tracebacks through."""

    @functools.wraps(handler)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            handler(*args, **options)
        except HeadscribeError as error:
            if options.get("debug"):
                raise
            stop(error.one_line(), code=error.exit_code)
        except KeyboardInterrupt:
            stop("stopped by the user", code=130)
        except BrokenPipeError:
            # the reader of a pipe went away (`… | head`): not an error; keep the interpreter from complaining at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return wrapped  # type: ignore[return-value]


def stop(message: str, *, code: int) -> None:
    """Print one line to standard error and end with `code`."""
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """`value` as JSON on standard output, readable on a terminal, one line in a pipe."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))
