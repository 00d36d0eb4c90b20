"""`headscribe operations`: list, add, remove and rebuild what heads are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from agent.commands.command_line import OptionGroup, command, group_of_commands, say
from agent.commands.options import AsJson, StoreUrl
from agent.output.console import console, echo_json, inert, progress

if TYPE_CHECKING:
    from agent.operations.operation import KnownOperation
    from agent.operations.store import KnownOperationStore
    from agent.runs.stored import StoredHead

app = group_of_commands("Known operations: named example mappings that heads are compared with.")
SHOWN_EXAMPLES = 4


@dataclass(frozen=True)
class RunOptions(OptionGroup):
    """The described head that becomes an operation."""

    title: ClassVar[str] = "From a head"
    from_run: Annotated[int | None, typer.Option("--from-run", help="Number of a run of label-heads.")] = None
    layer: Annotated[int | None, typer.Option("--layer", help="With --from-run.", min=0)] = None
    head: Annotated[int | None, typer.Option("--head", help="With --from-run.", min=0)] = None
    database: Annotated[
        str | None,
        typer.Option("--database", help="Of the run: SQLite file or URL.", envvar="HEADSCRIBE_DATABASE"),
    ] = None


@command(app, "list")
def list_operations(
    words: Annotated[list[str] | None, typer.Argument(help="Only operations that hold all of these words.")] = None,
    added: Annotated[bool, typer.Option("--added", help="Leave the catalogue out.")] = False,
    store_url: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Operations with description, examples and origin, the catalogue first."""
    with _opened(store_url, as_json) as store:
        everything = store.list()
    found = [one for one in everything if _holds(one, words or []) and not (added and one.origin == "catalogue")]
    if as_json:
        echo_json([asdict(one) for one in found])
    else:
        _show(found, len(everything))


@command(app, "add")
def add(
    from_head: RunOptions,
    name: Annotated[str | None, typer.Argument(help="Name; a file or a run has its own.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="What is mapped to what.")] = None,
    example: Annotated[list[str] | None, typer.Option("--example", help="source->target. Repeatable.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Pairs as .json, .jsonl, .csv or .tsv.")] = None,
    store_url: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Add an operation from examples, from a file of pairs, or from the description of a head."""
    if from_head.from_run is not None:
        made = _from_run(from_head.from_run, from_head, name, description)
    else:
        made = _from_pairs(name, description, example or [], file)
    with _opened(store_url, as_json) as store:
        store.add(made)
    say(f"added {made.name} with {len(made.examples)} examples", value=asdict(made), as_json=as_json)


@command(app, "remove")
def remove(
    name: Annotated[str, typer.Argument(help="Name of an added operation.")],
    store_url: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Remove an added operation; the catalogue stays."""
    with _opened(store_url, as_json) as store:
        store.remove(name)
    say(f"removed {name}", value={"removed": name}, as_json=as_json)


@command(app, "rebuild")
def rebuild(store_url: StoreUrl = None, as_json: AsJson = False) -> None:
    """Embed everything anew, also after a change of the embedder; added operations are kept."""
    with _opened(store_url, as_json, change_embedder=True) as store:
        store.rebuild()
        found = store.list()
    n_added = sum(one.origin != "catalogue" for one in found)
    counts = {"operations": len(found), "added": n_added}
    say(f"{len(found)} operations embedded anew, {n_added} of them added", value=counts, as_json=as_json)


@contextmanager
def _opened(url: str | None, quiet: bool = False, *, change_embedder: bool = False) -> Iterator[KnownOperationStore]:
    from agent.operations.additions import open_known_operations

    with progress(enabled=not quiet) as tell:
        tell("opening the known operations")
        with open_known_operations(url=url, change_embedder=change_embedder) as store:
            yield store


def _from_pairs(name: str | None, description: str | None, texts: list[str], file: Path | None) -> KnownOperation:
    from agent.errors import UnknownOperation
    from agent.operations.additions import operation_of_file, operation_of_pairs, pair_of_text
    from maps_engine.relations.catalogue import read_pairs_file

    if (file is None) == (not texts):
        raise UnknownOperation("say where the examples are", expected="--example, --file, or --from-run with a head")
    if file is not None:
        return operation_of_file(read_pairs_file(file), name=name, description=description)
    if not name or not description:
        raise UnknownOperation("an operation needs a name and a description", expected="NAME --description TEXT")
    return operation_of_pairs(name, description, map(pair_of_text, texts))


def _from_run(run: int, asked: RunOptions, name: str | None, description: str | None) -> KnownOperation:
    from agent.errors import UnknownRun
    from agent.runs.database import open_database
    from agent.runs.stored import stored_head

    if asked.layer is None or asked.head is None:
        raise UnknownRun("say which head of the run", expected="--layer and --head")
    found = stored_head(open_database(asked.database), run, asked.layer, asked.head)
    if name:
        found = replace(found, operation=name)
    if description:
        found = replace(found, input_strings="", observed_pattern=description)
    return _operation_of(found)


def _operation_of(head: StoredHead) -> KnownOperation:
    """The description of a head of a run. Raises UnknownOperation where it says nothing."""
    from agent.errors import UnknownOperation
    from agent.operations.additions import operation_of_head

    place = f"run {head.run}, layer {head.layer}, head {head.head}"
    if head.status != "ok":
        raise UnknownOperation("only a description that says something can be added", got=f"{head.status} ({place})")
    return operation_of_head(
        head.operation or head.observed_pattern,
        f"{head.input_strings} {head.observed_pattern}",
        ((row.token, [target.token for target in row.targets]) for row in head.rows),
        origin=f"{head.model}, {place}",
    )


def _holds(one: KnownOperation, words: list[str]) -> bool:
    examples = (word for source, targets in one.examples for word in (source, *targets))
    text = "\n".join((one.name, one.description, one.origin, *examples)).casefold()
    return all(word.casefold() in text for word in words)


def _show(found: list[KnownOperation], total: int) -> None:
    out = console()
    for one in found:
        pairs = ", ".join(f"{source} → {targets[0]}" for source, targets in one.examples[:SHOWN_EXAMPLES])
        out.print(inert(one.name, "bold"), inert(f"({one.origin})", "dim"))
        out.print(inert(f"  {one.description}"))
        out.print(inert(f"  {pairs} … {len(one.examples)} examples", "dim"))
    out.print(f"{len(found)} of {total} operations")
