"""`serve-heads`, the whole web app, and `rate-heads serve`, the same without describing heads.

Heavy imports stay inside the handlers, so that --help is instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from agent.commands.command_line import OptionGroup, Version, command, command_line
from agent.commands.options import Database
from agent.output.console import console, inert

app = command_line()


@dataclass(frozen=True)
class AddressOptions(OptionGroup):
    """Where the app listens, who may come in, and what it shows."""

    title: ClassVar[str] = "Address and access"
    host: Annotated[str, typer.Option(help="Address to listen on; a wider one needs --accounts.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 8000
    accounts: Annotated[bool, typer.Option("--accounts", help="Only invited people come in.")] = False
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another host name the app may be reached by.")
    ] = None


@command(app)
def serve_heads(
    address: AddressOptions,
    open_browser: Annotated[
        bool, typer.Option("--open-browser", help="With --accounts: anybody may look at heads.")
    ] = False,
    describing: Annotated[bool, typer.Option("--describe/--no-describe", help="Describe heads on request.")] = True,
    database: Database = None,
    version: Version = False,
) -> None:
    """Serve head browser, rating pages and JSON API."""
    _serve(address, database, open_browser=open_browser, describing=describing)


def serve_rating(address: AddressOptions, database: Database = None) -> None:
    """Serve the rating pages (the whole app, without describing heads)."""
    _serve(address, database, open_browser=False, describing=False)


def _serve(address: AddressOptions, database: str | None, *, open_browser: bool, describing: bool) -> None:
    from eval.web.serve import find_describer, serve

    serve(
        database=database,
        host=address.host,
        port=address.port,
        accounts=address.accounts,
        open_browser=open_browser,
        allow_hosts=address.allow_host or (),
        describe=find_describer() if describing else None,
        announce=lambda link: console().print(inert(f"{link}  (stop with Ctrl-C)")),
    )


def serve_heads_main() -> None:
    """Entry point of `serve-heads`."""
    app(prog_name="serve-heads")
