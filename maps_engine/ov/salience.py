"""Salient tokens of a head and the targets it maps them to (docs/method.md, "Head to operation: salient operations").

A scan in float32 streams the vocabulary in chunks. `maps_engine.ov.low_precision` does the same scan in bfloat16 and
proves, row by row, that the float32 list could not differ; both return the same lists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maps_engine.ov.circuit import OVCircuit, UnembeddingTable, chunks, written_norms
from maps_engine.ov.entry_ranks import ROUNDING
from maps_engine.ov.top_entries import RunningTop

SOURCE_CHUNK = 4096
TARGET_CHUNK = 16384
ROWS_AT_ONCE = 256  # of a product that is looked through at once: larger ones leave the processor's cache
SPARE = 6  # entries beside the strongest that are put in order with them


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
    """(H, n, k) on the processor: the `k` most promoted targets of `ids` (n,) on every head, strongest first.

    For many tokens entries are products of d_h numbers, not of d. Entries too close for float32 are put in order in
    float64, so that a token's list does not depend on the tokens that it is read with.
    """
    a, _ = circuit.values(ids)
    heads = range(len(circuit.heads.output))
    read = [a[:, head // circuit.heads.group] for head in heads]
    d_h, d = circuit.heads.output.shape[1:]
    narrow = len(a) * (d - d_h) > d_h * d
    if not narrow:
        read = [read[head] @ circuit.heads.output[head] for head in heads]
    lists = [[RunningTop(k + SPARE) for _ in rows.split(ROWS_AT_ONCE)] for rows in read]
    longest = a.new_zeros(())
    for part in chunks(circuit.table.weights.shape.vocab_size, TARGET_CHUNK):
        u = circuit.unembedding.rows(part)
        longest = torch.maximum(longest, u.norm(dim=-1).max())
        columns = torch.arange(part.start, part.stop, device=a.device)
        for head in heads:
            matrix = circuit.heads.output[head] @ u.T if narrow else u.T
            for rows, running in zip(read[head].split(ROWS_AT_ONCE), lists[head], strict=True):
                running.update(rows @ matrix, columns)
    results = [[one.result() for one in of_head] for of_head in lists]
    values, found = (torch.stack([torch.cat([one[i] for one in of_head]) for of_head in results]) for i in (0, 1))
    slack = written_norms(a, circuit.factors, circuit.heads.group).T.unsqueeze(-1) * longest * ROUNDING
    return _exactly_ordered(circuit, ids, values, found, slack)[..., :k]


def _exactly_ordered(circuit: OVCircuit, ids: Tensor, values: Tensor, found: Tensor, slack: Tensor) -> Tensor:
    """`found` (H, n, k), ordered anew where neighbours in a row of `values` are closer than `slack` (H, n, 1)."""
    close = (values.diff(dim=-1).neg() <= slack).any(dim=-1).cpu()
    found, outputs, a = found.cpu(), circuit.heads.double().output, circuit.exact_values(ids)
    for head in close.any(dim=-1).nonzero().flatten().tolist():
        at = close[head].nonzero().flatten()
        candidates = found[head, at].sort(dim=-1).values  # equal entries by lower id
        u = circuit.unembedding.rows(candidates.flatten().to(ids.device)).cpu().double().unflatten(0, candidates.shape)
        written = a[at, head // circuit.heads.group] @ outputs[head]
        exact = (u * written.unsqueeze(1)).sum(dim=-1)
        found[head, at] = candidates.gather(1, exact.argsort(dim=-1, descending=True, stable=True))
    return found


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
