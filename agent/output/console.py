"""What every command shares: one-line errors with their exit codes, JSON output, consoles, inert tokens.

Light to import: no torch, no transformers, no LangChain.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

import typer
from rich.console import Console
from rich.text import Text

from agent.quiet import quiet_libraries as quiet_libraries  # commands take it with their consoles
from maps_engine.checkpoints.token_spelling import visible
from maps_engine.errors import HeadscribeError
from maps_engine.finite import finite


def console() -> Console:
    """Standard output; plain text of full width where it is no terminal."""
    out: TextIO | None = sys.stdout  # None where the shell closed it (`>&-`): rich then writes nowhere
    terminal = out is not None and out.isatty()
    return Console(file=out, width=None if terminal else 120, highlight=False, soft_wrap=False)


def error_console() -> Console:
    """Standard error, for progress and error lines."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def token_text(token: str, style: str = "") -> Text:
    """A token as inert text: no markup, no escapes, spaces shown as ␣."""
    return Text(visible(token), style=style)


def inert(text: str, style: str = "") -> Text:
    """Any text from a model or a file, in one line, with nothing left that moves a cursor or is markup."""
    return Text(visible(" ".join(text.split())), style=style)


def echo_json(value: object) -> None:
    """One JSON document on standard output: ASCII only, no NaN."""
    typer.echo(json.dumps(finite(value), indent=2, ensure_ascii=True, allow_nan=False))


@contextmanager
def one_line_errors(*, debug: bool) -> Iterator[None]:
    """Errors as one line and an exit code: 2 for a user's mistake, 1 for a failure; `--debug` shows the traceback."""
    try:
        yield
    except HeadscribeError as error:
        if debug:
            raise
        fail(error.one_line(), error.exit_code)
    except KeyboardInterrupt:
        fail("stopped", 130)
    except BrokenPipeError:
        # the reader of a pipe went away (`… | head`): no error; nothing may be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError:
        if debug:
            raise
        fail("out of memory. Take a smaller model, or --device of a larger machine.", 1)
    except OSError as error:
        if debug:
            raise
        fail(f"{error.strerror or type(error).__name__}: {error.filename or error}", 1)


def fail(message: str, code: int) -> NoReturn:
    """One line on standard error, then exit."""
    typer.echo(f"error: {visible(' '.join(message.split()))}", err=True)
    raise typer.Exit(code)


@contextmanager
def progress(enabled: bool) -> Iterator[Callable[[str], None]]:
    """A status line on standard error while the work lasts; silent where it is no terminal."""
    err = error_console()
    if not enabled or not err.is_terminal:
        yield lambda _: None
        return
    with err.status("starting") as status:
        yield lambda text: status.update(inert(text))
