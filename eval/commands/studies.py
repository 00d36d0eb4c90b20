"""Commands of `rate-heads` around a study and its people. Heavy imports stay inside, so that --help is instant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agent.commands.command_line import OptionGroup, say
from agent.commands.options import AsJson, Database
from agent.output.console import console, echo_json, inert

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from eval.rating.heads.described import Head
    from eval.rating.studies import StudySettings

StudyId = Annotated[int, typer.Argument(help="Number of the study.", min=1)]


@dataclass(frozen=True)
class HeadOptions(OptionGroup):
    """Which descriptions are rated."""

    title: ClassVar[str] = "Heads"
    run: Annotated[int | None, typer.Option(help="Run of `label-heads` whose descriptions are rated.")] = None
    heads: Annotated[Path | None, typer.Option(help="JSONL of described heads from another tool.")] = None
    n: Annotated[int | None, typer.Option("--heads-wanted", help="How many heads; default: all that fit.")] = None
    first_layer: Annotated[int | None, typer.Option(help="First layer.")] = None
    last_layer: Annotated[int | None, typer.Option(help="Last layer.")] = None
    stratify: Annotated[bool, typer.Option(help="The same number from every layer.")] = True
    each_operation: Annotated[
        bool,
        typer.Option(
            "--each-operation",
            help="Ask about each operation of a head that a test supports, one item each, with the rows of its part "
            "of the head; of a head without any, about its description. Not with --heads.",
        ),
    ] = False

    def described(self, engine: Engine) -> list[Head]:
        """The heads to draw from. Raises BadStudy, UnknownRun."""
        from eval.rating.heads.described import described_heads, heads_from_jsonl

        if self.heads is None:
            return described_heads(engine, self.run or 0)
        return heads_from_jsonl(self.heads.read_text(encoding="utf-8", errors="replace").splitlines())

    @property
    def origin(self) -> str:
        """For the report of the study."""
        return self.heads.name if self.heads is not None else f"run {self.run}"


@dataclass(frozen=True)
class DesignOptions(OptionGroup):
    """What raters meet."""

    title: ClassVar[str] = "Design"
    raters: Annotated[int, typer.Option(help="Raters per description.")] = 3
    controls: Annotated[float, typer.Option(help="Share of control items (swapped descriptions).")] = 0.2
    practice: Annotated[int, typer.Option(help="Practice items.")] = 2
    attention: Annotated[int, typer.Option(help="Attention items.")] = 2
    pattern_first: Annotated[bool, typer.Option(help="Ask for a pattern before the description shows.")] = True
    lease_minutes: Annotated[float, typer.Option(help="Then an open item goes to somebody else.")] = 30.0
    items_per_rater: Annotated[int | None, typer.Option(help="At most this many each.")] = None
    tested_rows: Annotated[
        bool,
        typer.Option(
            help="With a description, show rows of words that it was tested on; for swapped ones the model of the run "
            "is opened. Not with --heads."
        ),
    ] = True
    seed: Annotated[int, typer.Option(help="The same seed, the same study.")] = 0

    def settings(self, heads: HeadOptions) -> StudySettings:
        """What `eval.rating` takes."""
        from eval.rating.studies import StudySettings

        return StudySettings(
            n_heads=heads.n,
            first_layer=heads.first_layer,
            last_layer=heads.last_layer,
            stratify=heads.stratify,
            control_share=self.controls,
            practice=self.practice,
            attention=self.attention,
            pattern_first=self.pattern_first,
            lease_minutes=self.lease_minutes,
            items_per_rater=self.items_per_rater,
            each_operation=heads.each_operation,
            source=heads.origin,
        )


def study_engine(database: str | None) -> Engine:
    """The database, with the tables of studies in it. Raises what `open_studies` raises."""
    from eval.rating.store import open_studies

    return open_studies(database)


def create(
    heads: HeadOptions,
    design: DesignOptions,
    name: Annotated[str, typer.Option(help="For you; raters do not see it.")],
    launch: Annotated[bool, typer.Option("--launch", help="Freeze and open it at once.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a study from a run or from a JSONL file."""
    from eval.errors import BadStudy
    from eval.rating import studies
    from eval.rating.swapped_rows import SwappedRows

    if (heads.run is None) == (heads.heads is None):
        raise BadStudy("name one source of heads", expected="--run NUMBER or --heads FILE")
    if heads.each_operation and heads.run is None:
        raise BadStudy("heads of another tool have no operations besides their description", expected="--run NUMBER")
    engine = study_engine(database)
    described, settings = heads.described(engine), design.settings(heads)
    reread = SwappedRows(engine, heads.run) if design.tested_rows and heads.run is not None else None
    study = studies.create_study(
        engine, name=name, heads=described, k=design.raters, seed=design.seed, settings=settings, reread=reread
    )
    frozen = studies.launch(engine, study) if launch else None
    state = f", launched, content {frozen[:12]}" if frozen else ", a draft"
    say(f"study {study}{state}", value={"study": study, "content_hash": frozen}, as_json=as_json)


def launch(study: StudyId, database: Database = None, as_json: AsJson = False) -> None:
    """Freeze a draft and open it."""
    from eval.rating.studies import launch as run

    frozen = run(study_engine(database), study)
    made = {"study": study, "content_hash": frozen}
    say(f"study {study} is open, content {frozen[:12]}", value=made, as_json=as_json)


def close(study: StudyId, database: Database = None, as_json: AsJson = False) -> None:
    """Take no more answers."""
    from eval.rating.studies import close_study

    close_study(study_engine(database), study)
    say(f"study {study} is closed", value={"study": study, "state": "closed"}, as_json=as_json)


def invite(
    study: Annotated[int | None, typer.Option("--study", help="Number of the study, for a rater.")] = None,
    name: Annotated[str | None, typer.Option(help="Default: R1, R2, …; a known name gets a new link.")] = None,
    lead: Annotated[str | None, typer.Option(help="Make a link for a lead of this name instead.")] = None,
    base: Annotated[str, typer.Option(help="Where the app is reached.")] = "http://127.0.0.1:8000",
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a personal link; it is shown once and opens once."""
    from eval.errors import BadStudy
    from eval.rating.people import invite as run

    if (study is None) == (lead is None):
        raise BadStudy("say who is invited", expected="--study NUMBER for a rater, or --lead NAME")
    role = "rater" if lead is None else "lead"
    shown, token = run(study_engine(database), study_id=study, name=lead or name, role=role)
    link = f"{base.rstrip('/')}/join/{token}"
    say(f"{shown}: {link}", value={"name": shown, "role": role, "link": link}, as_json=as_json)


def token(
    name: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[list[str], typer.Option(help="read, describe or export; may be repeated.")],
    days: Annotated[float, typer.Option(help="How long it is valid.")] = 90.0,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for the JSON API; it is shown once."""
    from eval.rating.people import new_api_token

    made = new_api_token(study_engine(database), name=name, scopes=tuple(scope), days=days)
    say(made, value={"name": name, "token": made, "scopes": sorted(set(scope))}, as_json=as_json)


def status(
    study: Annotated[int | None, typer.Argument(help="Number of the study; default: all.")] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Where studies stand."""
    from eval.errors import NotFound
    from eval.rating.progress import progress
    from eval.rating.studies import list_studies

    engine = study_engine(database)
    found = [(one, progress(engine, one.id)) for one in list_studies(engine) if study in (None, one.id)]
    if study is not None and not found:
        raise NotFound("no such study", got=study)
    if as_json:
        about = ({"study": one.id, "name": one.name, "state": one.state} | asdict(now) for one, now in found)
        echo_json(list(about))
        return
    for one, now in found:
        _show_line(f"{one.id} {one.name} {one.state} {now.done} of {now.slots} answers, {len(now.raters)} raters")
        for lease in now.leases if study is not None else ():
            end = "ran out" if lease.expired else "open"
            _show_line(f"{lease.rater} has item {lease.position} on screen ({end})")


def _show_line(text: str) -> None:
    console().print(inert(text))
