"""Attention read from weights against attention in the running model, over all heads.

    python -m tests.benchmarks.attention_readings [--model smollm2-135m] [--text FILE]

Real attention is measured on a text, by default the project's own documents, cut into pieces of 128 tokens that begin
with the start of texts, and for finding words again on random tokens that repeat. Printed for each reading: Spearman
over heads with a 95 % interval (heads drawn anew), and the area under the ROC curve for heads whose real
attention is above 0.3; then the strongest heads, real beside read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from eval.statistics.correlation import correlate
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import Checkpoint
from maps_engine.qk.made_texts import read_attention
from maps_engine.results import HeadAttention

ROOT = Path(__file__).parents[2]
READINGS = ("previous", "itself", "first", "duplicate", "induction")
PIECES, LENGTH, BATCH = 24, 128, 4
EARLIEST = 32
REPEATED = 48
CLEAR = 0.3


def pieces(checkpoint: Checkpoint, text: str) -> Tensor:
    """(PIECES, LENGTH) of a text, each behind the start of texts."""
    start, ids = list(checkpoint.vocabulary.start), checkpoint.vocabulary.encode(text)
    n = LENGTH - len(start)
    return torch.tensor([start + ids[i * n : (i + 1) * n] for i in range(min(PIECES, len(ids) // n))])


def repeats(checkpoint: Checkpoint) -> Tensor:
    """(PIECES, s + 2 REPEATED): random tokens, twice."""
    start, chance = torch.tensor(checkpoint.vocabulary.start), torch.Generator().manual_seed(1)
    once = torch.randint(300, len(checkpoint.vocabulary) - 300, (PIECES, REPEATED), generator=chance)
    return torch.cat([start.expand(PIECES, -1), once, once], dim=1)


def real(checkpoint: Checkpoint, text: str) -> dict[str, np.ndarray]:
    """Mean attention (L H,) of each reading in the running model."""
    model = checkpoint.weights.running(dtype=torch.float32, attention="eager")
    s = len(checkpoint.vocabulary.start)
    later, seconds = torch.arange(EARLIEST, LENGTH), torch.arange(s + REPEATED + 1, s + 2 * REPEATED)
    places = {"previous": (later, later - 1), "itself": (later, later), "first": (later, torch.zeros_like(later))}
    again = {"duplicate": (seconds, seconds - REPEATED), "induction": (seconds, seconds - REPEATED + 1)}
    return _means(model, pieces(checkpoint, text), places) | _means(model, repeats(checkpoint), again)


def _means(model: nn.Module, texts: Tensor, places: dict[str, tuple[Tensor, Tensor]]) -> dict[str, np.ndarray]:
    """(L H,) of each reading: mean attention of some places (rows) to others (columns)."""
    found: dict[str, list[Tensor]] = {name: [] for name in places}
    for batch in texts.split(BATCH):
        with torch.no_grad():
            layers = model(input_ids=batch, output_attentions=True).attentions
        for name, (rows, columns) in places.items():
            found[name].append(torch.cat([one[:, :, rows, columns].mean(dim=-1).T for one in layers]))
    return {name: torch.cat(parts, dim=1).mean(dim=1).numpy() for name, parts in found.items()}


def area(read: np.ndarray, clear: np.ndarray) -> float:
    """The share of pairs of a clear head and another in which the clear one is read higher."""
    differences = read[clear][:, None] - read[~clear][None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean()) if differences.size else float("nan")


def rho(read: np.ndarray, wanted: np.ndarray) -> float:
    """Spearman over heads."""
    found = correlate(torch.tensor(read), torch.tensor(wanted)).rho
    return float("nan") if found is None else found


def told(heads: list[HeadAttention], name: str, wanted: np.ndarray) -> str:
    """One line of the table, and one of heads."""
    read, clear = np.array([getattr(one, name) for one in heads]), wanted > CLEAR
    chance = np.random.default_rng(0)
    drawn = [chance.integers(0, len(read), len(read)) for _ in range(500)]
    low, high = np.nanquantile([rho(read[one], wanted[one]) for one in drawn], (0.025, 0.975))
    best = [heads[i] for i in np.argsort(-wanted)[:8]]
    pairs = [(one, wanted[heads.index(one)], getattr(one, name)) for one in best]
    shown = ", ".join(f"{one.layer}.{one.head} {real:.2f}/{made:.2f}" for one, real, made in pairs)
    numbers = f"Spearman {rho(read, wanted):.2f} [{low:.2f}, {high:.2f}]  AUC {area(read, clear):.3f} of {clear.sum()}"
    return f"{name:10} {numbers} heads\n           real/read: {shown}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--text", type=Path, nargs="*", default=[ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))])
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.model, device="cpu")
    start = time.perf_counter()
    heads = [one for layer in read_attention(checkpoint) for one in layer]
    print(f"{given.model}: {len(heads)} heads read in {time.perf_counter() - start:.1f} s")  # noqa: T201
    wanted = real(checkpoint, "\n".join(path.read_text("utf-8") for path in given.text))
    for name in READINGS:
        print(told(heads, name, wanted[name]))  # noqa: T201


if __name__ == "__main__":
    main()
