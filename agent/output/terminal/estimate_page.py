"""`label-heads --dry-run` on a terminal: the time of each part, and the memory."""

from __future__ import annotations

from rich.console import Console

from agent.output.console import inert
from agent.output.terminal.label_progress import readable_time
from agent.pipeline.estimate import Estimate


def show_estimate(out: Console, estimate: Estimate) -> None:
    """One line a part."""
    out.print(inert(f"{estimate.model}: {estimate.heads} heads", "bold"))
    parts = (
        ("the first layer", estimate.first_layer_seconds),
        ("all other layers", estimate.more_layers_seconds),
        ("descriptions (lexical)", estimate.describe_seconds),
        ("tests on all heads", estimate.test_seconds),
        ("what heads attend to", estimate.attention_seconds),
        ("together", estimate.seconds),
    )
    for name, seconds in parts:
        out.print(f"  {name:<28} {readable_time(seconds):>9}")
    out.print(f"  {'memory at the peak':<28} {estimate.peak_bytes / 1e9:>6.1f} GB")
    out.print(
        "  From two layers timed on this machine, as busy as it is now; a language model's own time comes on top.",
        style="dim",
    )
