"""Console scripts of rating and the web app: `rate-heads` and `serve-heads`.

Heavy imports stay inside the handlers, so that --help is instant.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.command_line import Version, command_line
from agent.commands.database_option import Database
from agent.commands.options import AsJson, Debug
from agent.output.console import console, echo_json, inert, one_line_errors, quiet_libraries

if TYPE_CHECKING:
    from sqlalchemy import Engine

_rate = command_line(no_args_is_help=True)
_serve = command_line()

StudyId = Annotated[int, typer.Argument(help="Number of the study.", min=1)]
Host = Annotated[str, typer.Option(help="Address to listen on; a wider one needs --accounts.")]
Port = Annotated[int, typer.Option(help="Port.", min=0, max=65535)]
AllowHost = Annotated[
    list[str] | None, typer.Option("--allow-host", help="Another host name the app may be reached by.")
]


@_rate.callback()
def _main(version: Version = False) -> None:
    """Human studies of head descriptions: create, serve, follow, publish."""


def _engine(database: str | None) -> Engine:
    from eval.rating.store import open_studies

    return open_studies(database)


@_rate.command()
def create(
    name: Annotated[str, typer.Option(help="For you; raters do not see it.")],
    run: Annotated[int | None, typer.Option(help="Run of `label-heads` whose descriptions are rated.")] = None,
    heads: Annotated[Path | None, typer.Option(help="JSONL of described heads from another tool.")] = None,
    raters: Annotated[int, typer.Option(help="Raters per head.")] = 3,
    n: Annotated[int | None, typer.Option("--heads-wanted", help="How many heads; default: all that fit.")] = None,
    first_layer: Annotated[int | None, typer.Option(help="First layer.")] = None,
    last_layer: Annotated[int | None, typer.Option(help="Last layer.")] = None,
    stratify: Annotated[bool, typer.Option(help="The same number from every layer.")] = True,
    controls: Annotated[float, typer.Option(help="Share of control items (swapped descriptions).")] = 0.2,
    practice: Annotated[int, typer.Option(help="Practice items.")] = 2,
    attention: Annotated[int, typer.Option(help="Attention items.")] = 2,
    pattern_first: Annotated[bool, typer.Option(help="Ask for a pattern before the description shows.")] = True,
    lease_minutes: Annotated[float, typer.Option(help="Then an open item goes to somebody else.")] = 30.0,
    items_per_rater: Annotated[int | None, typer.Option(help="At most this many each.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same study.")] = 0,
    launch: Annotated[bool, typer.Option("--launch", help="Freeze and open it at once.")] = False,
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a study from a run or from a JSONL file."""
    with one_line_errors(debug=debug):
        from eval.errors import BadStudy
        from eval.rating import items, studies

        if (run is None) == (heads is None):
            raise BadStudy("name one source of heads", expected="--run NUMBER or --heads FILE")
        engine = _engine(database)
        if heads is not None:
            described = items.heads_from_jsonl(heads.read_text(encoding="utf-8").splitlines())
        else:
            described = items.described_heads(engine, run or 0)
        settings = studies.StudySettings(
            n_heads=n,
            first_layer=first_layer,
            last_layer=last_layer,
            stratify=stratify,
            control_share=controls,
            practice=practice,
            attention=attention,
            pattern_first=pattern_first,
            lease_minutes=lease_minutes,
            items_per_rater=items_per_rater,
            source=heads.name if heads is not None else f"run {run}",
        )
        study = studies.create_study(engine, name=name, heads=described, k=raters, seed=seed, settings=settings)
        frozen = studies.launch(engine, study) if launch else None
        _say(
            as_json,
            {"study": study, "content_hash": frozen},
            f"study {study}" + (f", launched, content {frozen[:12]}" if frozen else ", a draft"),
        )


def _say(as_json: bool, value: dict[str, Any], text: str) -> None:
    if as_json:
        echo_json(value)
    else:
        console().print(inert(text))


@_rate.command()
def launch(study: StudyId, database: Database = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Freeze a draft and open it."""
    with one_line_errors(debug=debug):
        from eval.rating.studies import launch as run

        frozen = run(_engine(database), study)
        _say(as_json, {"study": study, "content_hash": frozen}, f"study {study} is open, content {frozen[:12]}")


@_rate.command()
def close(study: StudyId, database: Database = None, debug: Debug = False) -> None:
    """Take no more answers."""
    with one_line_errors(debug=debug):
        from eval.rating.studies import close_study

        close_study(_engine(database), study)
        _say(False, {}, f"study {study} is closed")


@_rate.command()
def invite(
    study: Annotated[int | None, typer.Option("--study", help="Number of the study, for a rater.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: R1, R2, …; a known name gets a new link.")] = None,
    lead: Annotated[str | None, typer.Option(help="Make a link for a lead of this name instead.")] = None,
    base: Annotated[str, typer.Option(help="Where the app is reached.")] = "http://127.0.0.1:8000",
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a personal link; it is shown once and opens once."""
    with one_line_errors(debug=debug):
        from eval.errors import BadStudy
        from eval.rating.people import invite as run

        if (study is None) == (lead is None):
            raise BadStudy("say who is invited", expected="--study NUMBER for a rater, or --lead NAME")
        role = "rater" if lead is None else "lead"
        shown, token = run(_engine(database), study_id=study, name=lead or name, role=role)
        link = f"{base.rstrip('/')}/join/{token}"
        _say(as_json, {"name": shown, "role": role, "link": link}, f"{shown}: {link}")


@_rate.command()
def token(
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[list[str], typer.Option(help="read, describe or export; may be repeated.")],
    days: Annotated[float, typer.Option(help="How long it is valid.")] = 90.0,
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a token for the JSON API; it is shown once."""
    with one_line_errors(debug=debug):
        from eval.rating.people import new_api_token

        made = new_api_token(_engine(database), name=name, scopes=tuple(scope), days=days)
        _say(as_json, {"name": name, "token": made, "scopes": sorted(set(scope))}, made)


@_rate.command()
def status(
    study: Annotated[int | None, typer.Argument(help="Number of the study; default: all.")] = None,
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Where studies stand."""
    with one_line_errors(debug=debug):
        from eval.errors import NotFound
        from eval.rating.progress import progress
        from eval.rating.studies import list_studies

        engine = _engine(database)
        found = [s for s in list_studies(engine) if study is None or s.id == study]
        if study is not None and not found:
            raise NotFound("no such study", got=study)
        lines = [(s, progress(engine, s.id)) for s in found]
        if as_json:
            echo_json([{"study": s.id, "name": s.name, "state": s.state} | dataclasses.asdict(p) for s, p in lines])
            return
        for s, p in lines:
            console().print(
                inert(f"{s.id}  {s.name}  {s.state}  {p.done} of {p.slots} answers, {len(p.raters)} raters")
            )
            for lease in p.leases if study is not None else ():
                end = "ran out" if lease.expired else "open"
                console().print(inert(f"   {lease.rater} has item {lease.position} on screen ({end})"))


@_rate.command()
def agreement(
    study: StudyId,
    report: Annotated[Path | None, typer.Option(help="Write report.md, report.html and figures here.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=10, max=100_000)] = 1000,
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Plausibility and agreement with intervals; the report of the study."""
    with one_line_errors(debug=debug):
        from eval.rating.report.report import study_report
        from eval.rating.report.text import as_markdown, report_json, write_report

        found = study_report(_engine(database), study, draws=draws)
        if report is not None:
            write_report(found, report)
        if as_json:
            echo_json(report_json(found))
        else:
            typer.echo(as_markdown(found, linked=report is not None), nl=False)


@_rate.command("export")
def export_study(
    study: StudyId,
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    fmt: Annotated[str, typer.Option("--format", help="csv, jsonl or label-studio.")] = "jsonl",
    database: Database = None,
    debug: Debug = False,
) -> None:
    """Write the answers of a study to a file."""
    with one_line_errors(debug=debug):
        from eval.rating.exchange.export import export
        from maps_engine.files import write_whole

        text = export(_engine(database), study, fmt)
        write_whole(out, text)
        _say(False, {}, f"wrote {out} ({len(text):,} characters)")


@_rate.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="JSONL or Label Studio JSON as `export` writes it.")],
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read answers: into a new study, or into the one whose items they answer."""
    with one_line_errors(debug=debug):
        from eval.rating.exchange.imports import import_study

        study, added = import_study(_engine(database), file.read_text(encoding="utf-8", errors="replace"))
        _say(as_json, {"study": study, "answers": added}, f"study {study}: {added} answers added")


@_rate.command()
def judge(
    study: StudyId,
    kind: Annotated[str, typer.Option(help="lexical, openai:MODEL or another language model.")] = "lexical",
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let a program rate too; it is marked and never mixed with people."""
    quiet_libraries()
    with one_line_errors(debug=debug):
        from eval.rating.judges import make_judge, run_judge

        named, made = make_judge(kind)
        n = run_judge(_engine(database), study, made, kind=named)
        _say(as_json, {"study": study, "judge": kind, "answers": n}, f"{kind}: {n} answers")


@_rate.command()
def approve(
    study: StudyId,
    min_raters: Annotated[int, typer.Option(help="At least so many must have judged it.", min=1)] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be added.")] = False,
    store_url: Annotated[
        str | None,
        typer.Option("--store-url", help="Chroma server instead of the data folder.", envvar="HEADSCRIBE_CHROMA_URL"),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Hand descriptions that people call plausible to the store of known operations."""
    quiet_libraries()
    with one_line_errors(debug=debug):
        from agent.operations.additions import add_operations, open_known_operations
        from eval.rating import verdicts

        engine = _engine(database)
        found = verdicts.approved_descriptions(engine, study, min_raters=min_raters)
        in_catalogue: tuple[str, ...] = ()
        if not dry_run and found:
            with open_known_operations(url=store_url) as store:
                add = functools.partial(add_operations, store)
                in_catalogue = verdicts.approve(engine, study, add, min_raters=min_raters).in_catalogue
        if as_json:
            echo_json([{"known": a.operation.name in in_catalogue} | dataclasses.asdict(a) for a in found])
            return
        if not found:
            need = f"most of its raters (at least {min_raters}) or by the lead"
            typer.echo(f"nothing to add: no description of study {study} is called plausible by {need}")
        for a in found:
            done = "would add" if dry_run else "in the catalogue" if a.operation.name in in_catalogue else "added"
            console().print(inert(f"{done}  {a.operation.name}: {a.operation.description}"))


@_rate.command("backup")
def backup_database(
    out: Annotated[Path, typer.Argument(help="New file.")], database: Database = None, debug: Debug = False
) -> None:
    """Copy the SQLite database while it is in use."""
    with one_line_errors(debug=debug):
        from eval.rating.store import backup

        size = backup(_engine(database), out)
        _say(False, {}, f"wrote {out} ({size:,} bytes)")


def _run_app(
    host: str,
    port: int,
    accounts: bool,
    open_browser: bool,
    allow_host: list[str] | None,
    database: str | None,
    describing: bool,
    debug: bool,
) -> None:
    quiet_libraries()
    with one_line_errors(debug=debug):
        from eval.web.serve import find_describer, serve

        serve(
            database=database,
            host=host,
            port=port,
            accounts=accounts,
            open_browser=open_browser,
            allow_hosts=allow_host or (),
            describe=find_describer() if describing else None,
            announce=lambda address: console().print(inert(f"{address}  (stop with Ctrl-C)")),
        )


Accounts = Annotated[bool, typer.Option("--accounts", help="Only invited people come in.")]


@_rate.command("serve")
def rate_serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    accounts: Accounts = False,
    allow_host: AllowHost = None,
    database: Database = None,
    debug: Debug = False,
) -> None:
    """Serve the rating pages (the whole app, without describing heads)."""
    _run_app(host, port, accounts, False, allow_host, database, False, debug)


@_serve.command()
def serve_heads(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    accounts: Accounts = False,
    open_browser: Annotated[
        bool, typer.Option("--open-browser", help="With --accounts: anybody may look at heads.")
    ] = False,
    allow_host: AllowHost = None,
    describing: Annotated[bool, typer.Option("--describe/--no-describe", help="Describe heads on request.")] = True,
    database: Database = None,
    debug: Debug = False,
    version: Version = False,
) -> None:
    """Serve head browser, rating pages and JSON API."""
    _run_app(host, port, accounts, open_browser, allow_host, database, describing, debug)


def rate_heads_main() -> None:
    """Entry point of `rate-heads`."""
    _rate(prog_name="rate-heads")


def serve_heads_main() -> None:
    """Entry point of `serve-heads`."""
    _serve(prog_name="serve-heads")
