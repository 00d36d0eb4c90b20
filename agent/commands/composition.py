"""`headscribe composition`: which heads feed which. Heavy imports stay inside handlers, so that --help is instant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.commands.options import AsJson, CheckpointOptions
from agent.output.console import echo_json
from maps_engine.errors import OutOfRange, UserMistake

if TYPE_CHECKING:
    from maps_engine.qk.composition import Composition, Edge

Layer = Annotated[int | None, typer.Option("--layer", help="Heads of this layer alone, from 0. [default: all]")]
Head = Annotated[int | None, typer.Option("--head", help="This head of --layer alone, from 0. [default: all]")]
Top = Annotated[int, typer.Option("--top", min=1, help="Edges of each kind that are listed.")]
FigureFile = Annotated[
    Path | None, typer.Option("--figure", help="Draw the strongest edges of the whole model: .png or .svg.")
]


def composition(
    checkpoint: CheckpointOptions,
    layer: Layer = None,
    head: Head = None,
    top: Top = 10,
    figure: FigureFile = None,
    as_json: AsJson = False,
) -> None:
    """Say which earlier heads feed a head's keys, queries and values most, from the weights.

    Without --layer, the strongest edges of the whole model. Of each head and kind the 10 strongest are known.
    """
    if head is not None and layer is None:
        raise UserMistake("--head says which head of a layer", got=f"--head {head}", expected="--layer beside it")
    if figure is not None:
        from agent.output.figures.composition import check_figure_name

        check_figure_name(figure)
    found = _read(checkpoint, layer, head, whole=figure is not None)
    edges = _chosen(found, layer, head, top)
    if figure is not None:
        from agent.output.figures.composition import write_composition_figure

        write_composition_figure(found, figure)
    _show(found, edges, figure, as_json=as_json)


def _read(checkpoint: CheckpointOptions, layer: int | None, head: int | None, *, whole: bool) -> Composition:
    """Of the layers up to the one that was asked for, or of the whole model."""
    from agent.output.terminal.relation_progress import layer_bar
    from maps_engine.checkpoints.opening import open_checkpoint
    from maps_engine.qk.composition import n_steps, read_composition

    opened = open_checkpoint(checkpoint.model, revision=checkpoint.revision, device=checkpoint.device)
    shape = opened.weights.shape
    for what, value, size in (("layer", layer, shape.n_layers), ("head", head, shape.n_heads)):
        if value is not None and not 0 <= value < size:
            raise OutOfRange(f"{opened.name} has no {what} {value}", expected=f"0 to {size - 1}")
    last = None if whole else layer
    with layer_bar("composition of heads", n_steps(shape, last)) as step:
        return read_composition(opened, last=last, progress=step)


def _chosen(found: Composition, layer: int | None, head: int | None, top: int) -> list[Edge]:
    """The `top` strongest of each kind into the heads that were asked for."""
    from maps_engine.qk.composition import KINDS

    asked = [one for one in found.strongest() if layer in (None, one.reader[0]) and head in (None, one.reader[1])]
    return [one for kind in KINDS for one in [own for own in asked if own.kind == kind][:top]]


def _show(found: Composition, edges: list[Edge], figure: Path | None, *, as_json: bool) -> None:
    from agent.output.composition_json import composition_to_json
    from agent.output.terminal.composition_page import show_composition
    from agent.output.terminal.relation_progress import output_console

    if as_json:
        echo_json(composition_to_json(found, edges))
        return
    console = output_console()
    show_composition(console, found, edges)
    if figure is not None:
        console.print(f"wrote {figure}", markup=False, soft_wrap=True)
