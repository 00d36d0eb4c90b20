"""Salient tokens of a head and the targets it maps them to (docs/method.md, "Head to operation: salient operations").

A scan in float32 streams the vocabulary in chunks. `maps_engine.ov.low_precision` does the same scan in bfloat16 and
proves, row by row, that the float32 list could not differ; both return the same lists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maps_engine.ov.circuit import OVCircuit, UnembeddingTable, chunks
from maps_engine.ov.top_entries import RunningTop

SOURCE_CHUNK = 4096
TARGET_CHUNK = 16384
ROWS_AT_ONCE = 256  # of a product that is looked through at once: larger ones leave the processor's cache


def salient_tokens(
    circuit: OVCircuit,
    *,
    top: int,
    allowed: Tensor | None = None,
    head: int | None = None,
    among: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Saliences and ids (H, top) of the most salient tokens of every head, or (1, top) of one `head`.

    `allowed` (V,) of bool leaves tokens out; `among` (n,) of ids are looked at alone.
    """
    size, device = circuit.table.weights.shape.vocab_size, circuit.heads.value.device
    running = RunningTop(top)
    for part in chunks(size, SOURCE_CHUNK) if among is None else among.split(SOURCE_CHUNK):
        sigma = circuit.salience(part)
        sigma = sigma if head is None else sigma[:, head : head + 1]
        if allowed is not None:
            sigma = sigma.masked_fill(~allowed[part].unsqueeze(-1), -1.0)
        ids = torch.arange(part.start, part.stop, device=device) if isinstance(part, slice) else part
        running.update(sigma.T.contiguous(), ids)
    return running.result()


def strongest_targets(circuit: OVCircuit, ids: Tensor, *, k: int) -> Tensor:
    """(H, n, k): the `k` most promoted targets of the tokens `ids` (n,) on every head, strongest first.

    Entries are products of d_h numbers, not of d: for many tokens on many heads that is what costs least.
    """
    a, _ = circuit.values(ids)
    lists = [[RunningTop(k) for _ in a.split(ROWS_AT_ONCE)] for _ in circuit.heads.output]
    for part in chunks(circuit.table.weights.shape.vocab_size, TARGET_CHUNK):
        u = circuit.unembedding.rows(part).T
        columns = torch.arange(part.start, part.stop, device=a.device)
        for head, output in enumerate(circuit.heads.output):
            narrow = output @ u  # (d_h, columns)
            for rows, running in zip(a[:, head // circuit.heads.group].split(ROWS_AT_ONCE), lists[head], strict=True):
                running.update(rows @ narrow, columns)
    return torch.stack([torch.cat([one.result()[1] for one in of_head]) for of_head in lists])


def top_targets(
    written: Tensor, unembedding: UnembeddingTable, *, targets: int, allowed: Tensor | None = None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The `targets` most promoted and most suppressed entries of rows y U for `written` y (n, d).

    Returns ((scores, ids), (scores, ids)), each (n, targets), strongest first.
    """
    size = unembedding.weights.shape.vocab_size
    promoted, suppressed = RunningTop(targets), RunningTop(targets)
    for part in chunks(size, TARGET_CHUNK):
        scores = written @ unembedding.rows(part).T
        ids = torch.arange(part.start, part.stop, device=written.device)
        if allowed is None:
            promoted.update(scores, ids)
            suppressed.update(scores.neg_(), ids)
            continue
        left_out = ~allowed[part]
        promoted.update(scores.masked_fill(left_out, -torch.inf), ids)
        suppressed.update(scores.neg_().masked_fill(left_out, -torch.inf), ids)
    values, found = suppressed.result()
    return promoted.result(), (-values, found)
