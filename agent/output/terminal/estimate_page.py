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
        ("what heads read (X)", estimate.sources_seconds),
        ("choice of X, head by head", estimate.choice_seconds),
        ("salient tokens and targets", estimate.scan_seconds),
        ("reading layers, listing rows", estimate.reading_seconds),
        ("descriptions (lexical)", estimate.describe_seconds),
        ("tests on all heads", estimate.test_seconds),
        ("together", estimate.seconds),
    )
    for name, seconds in parts:
        out.print(f"  {name:<28} {readable_time(seconds):>9}")
    out.print(f"  {'memory at the peak':<28} {estimate.peak_bytes / 1e9:>6.1f} GB")
    out.print(
        f"  This machine multiplies {estimate.float32_gflops:.0f} GFLOP/s in float32, {estimate.scan_gflops:.0f} in"
        " the arithmetic of the scan. Right within a factor of two where nothing else runs; a language model's own"
        " time comes on top.",
        style="dim",
    )
