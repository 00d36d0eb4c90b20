"""Mappings and relation scores of all heads under one source representation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from maps_engine.errors import BrokenCheckpoint, OutOfRange, UserMistake
from maps_engine.model import Checkpoint, ModelShape
from maps_engine.ordinary_words import ordinary_words
from maps_engine.ov.centred import CentredSources, centring_sample, ordinary_ids, spread
from maps_engine.ov.circuit import OVCircuit, UnembeddingTable, open_circuit
from maps_engine.ov.folding import Folding
from maps_engine.ov.low_precision import LowPrecisionScan, pays_off
from maps_engine.ov.pair_scores import PairScores, PairSet, score_pairs
from maps_engine.ov.residuals import Passed, ResidualTable, open_residuals, unseen
from maps_engine.ov.salience import salient_tokens, strongest_targets, top_targets
from maps_engine.ov.sources import Sources, SourceTable, check_source_name
from maps_engine.results import ConstantPart, EngineSettings, HeadMapping, HeadPart, MappingRow, RowsView, ScoredToken
from maps_engine.undertrained import undertrained_tokens

HELD_OUT = 30
HELD_BYTES = 2**30  # a table in float32 above which it is read again instead of held
Precision = Literal["auto", "float32", "bfloat16"]
HeadKey = tuple[int, int]  # layer, head
Lists = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # scores and ids (n, k): promoted, suppressed


def _room(device: torch.device) -> int:
    """Bytes that one table in float32 may take: an accelerator that has room is not kept waiting for rows."""
    return max(HELD_BYTES, torch.cuda.mem_get_info(device)[1] // 12) if device.type == "cuda" else HELD_BYTES


@dataclass
class SourceEngine:
    """All heads of one checkpoint read through one source representation."""

    checkpoint: Checkpoint
    settings: EngineSettings
    precision: Precision = "auto"  # of the scan over all heads; the lists are float32's either way
    passed: Passed = unseen  # told of each block that the vocabulary has passed under `residual`

    def __post_init__(self) -> None:
        check_source_name(self.settings.source)

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return self.checkpoint.weights.shape

    def circuit(self, layer: int) -> OVCircuit:
        """The OV circuit of `layer`; reads this layer's tensors."""
        self.check_head(layer, 0)
        return open_circuit(
            self.checkpoint.weights,
            layer,
            table=self.sources,
            unembedding=self.unembedding,
            folding=self.folding,
        )

    @cached_property
    def folding(self) -> Folding:
        """Biases are added to what a norm leaves, so folding them folds norms too; `residual` is read with both.

        Centring takes off what is the same for every token, and a bias behind W_V is.
        """
        biases = self.settings.fold_biases or self.settings.source == "residual"
        return Folding(norms=self.settings.fold_norms or biases, biases=biases and not self.settings.centred)

    @cached_property
    def sources(self) -> Sources:
        """X, row by row or held. Raises UserMistake and UnsupportedModel for a lead-in that cannot be."""
        plain = self._plain_sources()
        return CentredSources(plain, centring_sample(self.checkpoint)) if self.settings.centred else plain

    def _plain_sources(self) -> Sources:
        if self.settings.source == "residual":
            lead_in = self.settings.lead_in
            return open_residuals(self.checkpoint, lead_in, part=self.words, passed=self.passed)
        return SourceTable(
            self.checkpoint.weights,
            self.settings.source,
            first_mlp_in_layer_0=self.settings.first_mlp_in_layer_0,
            standardise=self.folding.norms,
        )

    @cached_property
    def words(self) -> Tensor | None:
        """(n,): the tokens among which salient ones are looked for; None for the whole vocabulary."""
        if self.settings.words is None:
            return None
        found = ordinary_words(self.checkpoint.vocabulary, self.settings.words)
        if not found:
            raise UserMistake("this vocabulary has no ordinary words", next_step="Read all tokens: --words 0.")
        return torch.tensor(found, device=self.checkpoint.weights.device)

    @cached_property
    def unembedding(self) -> UnembeddingTable:
        """U, row by row or held."""
        return UnembeddingTable(self.checkpoint.weights, self.folding)

    @cached_property
    def allowed(self) -> Tensor | None:
        """(V,) of bool, or None when every token may be listed."""
        if self.settings.include_special:
            return None
        kind = self.checkpoint.vocabulary.kind
        flags = [kind(i) == "normal" for i in range(self.shape.vocab_size)]
        return torch.tensor(flags, device=self.checkpoint.weights.device)

    def keeps(self, layer: int) -> bool:
        """Whether X of the tokens that are read together lies on disk for `layer`."""
        return isinstance(self.sources, ResidualTable) and self.sources.kept.has(layer)

    def check_head(self, layer: int, head: int) -> None:
        """Raise OutOfRange unless the model has this layer and head (both count from 0)."""
        for what, value, size in (("layer", layer, self.shape.n_layers), ("head", head, self.shape.n_heads)):
            if not 0 <= value < size:
                raise OutOfRange(
                    f"{self.checkpoint.name} has no {what} {value}",
                    expected=f"0 to {size - 1}",
                )

    def map_head(self, layer: int, head: int, *, held_out: int = HELD_OUT) -> HeadMapping:
        """Salient tokens and mappings of one head; vocabulary streamed, one layer's tensors in memory.

        Raises OutOfRange, and BrokenCheckpoint where weights are not finite.
        """
        self.check_head(layer, head)
        circuit, top = self.circuit(layer), self.settings.top + held_out
        if self.words is not None:
            self.sources.hold(layer)
        sigma, ids = salient_tokens(circuit, top=top, allowed=self.allowed, head=head, among=self.words)
        written = self._with_constants(circuit, [head], circuit.written(head, ids[0]))
        lists = top_targets(written, self.unembedding, targets=self.settings.targets, allowed=self.allowed)
        (found,) = self._mappings(layer, [head], sigma, ids, written, lists)
        return found

    def rows_of(self, layer: int, head: int, ids: Sequence[int]) -> tuple[MappingRow, ...]:
        """Rows of M for given tokens, in their order, salient or not. Raises OutOfRange."""
        return self.rows_of_heads({(layer, head): ids})[layer, head]

    def rows_of_heads(
        self, wanted: Mapping[HeadKey, Sequence[int]], *, targets: int | None = None
    ) -> dict[HeadKey, tuple[MappingRow, ...]]:
        """The same for many heads (layer, head), each with its own tokens: all tokens pass the blocks together.

        `targets` are listed of each row (default: as the settings have it). Raises OutOfRange.
        """
        for layer, head in wanted:
            self.check_head(layer, head)
        if len(wanted) > 1:
            self.unembedding.hold()
        together = sorted({i for ids in wanted.values() for i in ids})
        found: dict[HeadKey, tuple[MappingRow, ...]] = {}
        for layer in sorted({layer for layer, _ in wanted}):
            heads = [head for at, head in wanted if at == layer]
            found |= self._rows_in_layer(
                layer, {head: wanted[layer, head] for head in heads}, together, targets or self.settings.targets
            )
        return found

    def _rows_in_layer(
        self, layer: int, wanted: Mapping[int, Sequence[int]], together: Sequence[int], targets: int
    ) -> dict[HeadKey, tuple[MappingRow, ...]]:
        """Rows of M of the heads of one layer; `together` are the tokens of all layers, rising."""
        if not any(wanted.values()):
            return {(layer, head): () for head in wanted}
        device = self.checkpoint.weights.device
        circuit, place = self.circuit(layer), {i: n for n, i in enumerate(together)}
        x = circuit.table.rows(layer, torch.tensor(together, device=device))
        read = {head: x[[place[i] for i in ids]] for head, ids in wanted.items()}
        written = {head: circuit.heads.read(own, head) @ circuit.heads.output[head] for head, own in read.items()}
        sigma = torch.cat([written[h].norm(dim=-1) / read[h].norm(dim=-1).clamp_min(1e-30) for h in wanted])
        ids = torch.tensor([i for own in wanted.values() for i in own], device=device)
        lists, _ = top_targets(
            torch.cat(list(written.values())), self.unembedding, targets=targets, allowed=self.allowed
        )
        parts = [len(own) for own in wanted.values()]
        each = zip(wanted, sigma.split(parts), ids.split(parts), *(one.split(parts) for one in lists), strict=True)
        return {(layer, head): self._rows(*own) for head, *own in each}

    @cached_property
    def low_precision(self) -> LowPrecisionScan | None:
        """The bfloat16 scan, where asked for or where it pays off."""
        low = self.precision == "bfloat16" or (self.precision == "auto" and pays_off(self.checkpoint.weights.device))
        return LowPrecisionScan(self.unembedding) if low else None

    def hold_tables(self, layer: int) -> None:
        """Keep X and U in float32, unless they are large, only candidates are needed exactly, and reading is cheap.

        A table of a large model in float32 is twice what the checkpoint holds; a scan in bfloat16 needs exact rows for
        a few thousand candidates a layer, and those of E and U can be read again. A computed X is always held.
        """
        shape = self.shape
        device = self.checkpoint.weights.device
        large = 4 * shape.vocab_size * shape.d_model > _room(device) and self.low_precision is not None
        if not large:
            self.unembedding.hold()
        if not large or not self.sources.is_stored(layer):
            self.sources.hold(layer)

    def map_layer(
        self, layer: int, *, heads: Sequence[int] | None = None, held_out: int = HELD_OUT
    ) -> list[HeadMapping]:
        """Mappings of `heads` (default: all) of one layer; see `hold_tables` for what stays in memory."""
        self.check_head(layer, 0)
        self.hold_tables(layer)
        wanted = range(self.shape.n_heads) if heads is None else heads
        circuit, scan = self.circuit(layer), self.low_precision
        top, targets = self.settings.top + held_out, self.settings.targets
        if scan is not None and self.words is None:
            sigma, ids = scan.salient_tokens(circuit, top=top, allowed=self.allowed)
        else:
            sigma, ids = salient_tokens(circuit, top=top, allowed=self.allowed, among=self.words)
        written = self._with_constants(circuit, wanted, circuit.written_by_all(ids)[list(wanted)].flatten(0, 1))
        if scan is not None:
            lists = scan.top_targets(written, targets=targets, allowed=self.allowed)
        else:
            lists = top_targets(written, self.unembedding, targets=targets, allowed=self.allowed)
        chosen = list(wanted)
        return self._mappings(layer, chosen, sigma[chosen], ids[chosen], written, lists)

    def score_pairs(
        self,
        pair_sets: Sequence[PairSet],
        *,
        layers: Iterable[int] | None = None,
        heads: Sequence[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[PairScores]:
        """Relation and suppression scores of `heads` of `layers` (default: all), for each set of pairs of token ids."""
        self.unembedding.hold()
        chosen = range(self.shape.n_layers) if layers is None else list(layers)
        return score_pairs((self.circuit(i) for i in chosen), pair_sets, heads=heads, progress=progress)

    def strongest(self, ids: Sequence[int], *, k: int, layers: Iterable[int] | None = None) -> Tensor:
        """(L', H, n, k) of int32: the ids of the `k` most promoted targets of each token on all heads of `layers`.

        `layers`: by default all. As in scores of pairs, no token is left out.
        """
        self.unembedding.hold()
        tokens = torch.tensor(ids, device=self.checkpoint.weights.device)
        found = []
        for layer in range(self.shape.n_layers) if layers is None else layers:
            targets = strongest_targets(self.circuit(layer), tokens, k=k)
            found.append(targets.to(device="cpu", dtype=torch.int32))
        return torch.stack(found)

    @cached_property
    def undertrained(self) -> frozenset[int]:
        """Ids of the tokens that training hardly ever saw, as far as the weights tell."""
        return undertrained_tokens(self.checkpoint)

    @cached_property
    def _sample(self) -> Tensor | None:
        """(n,): the tokens over which constant parts are taken; None where there are none, or X is centred."""
        if self.settings.centred:
            return None
        if self.words is not None:
            return spread(self.words)
        ids = ordinary_ids(self.checkpoint)
        return spread(ids) if len(ids) else None

    def _with_constants(self, circuit: OVCircuit, heads: Sequence[int], written: Tensor) -> Tensor:
        """`written` (n, d) with what each of `heads` writes on the mean behind it."""
        if self._sample is None:
            return written
        return torch.cat([written, circuit.mean_written(self._sample)[list(heads)]])

    def _mappings(
        self, layer: int, heads: Sequence[int], sigma: Tensor, ids: Tensor, written: Tensor, lists: Lists
    ) -> list[HeadMapping]:
        """The mappings of `heads`; sigma and ids (h, n); `written` (h n, or h n + h with constant parts, d)."""
        n, rows = ids.shape[1], ids.numel()
        lengths = written.norm(dim=-1)
        mappings = []
        for i, head in enumerate(heads):
            own = slice(i * n, (i + 1) * n)
            found = self._mapping(layer, head, sigma[i], ids[i], _part(lists, own))
            if len(written) > rows:
                salient = lengths[own][: self.settings.top][sigma[i][: self.settings.top] >= 0]  # the rest is padding
                share = lengths[rows + i] / salient.mean().clamp_min(1e-30) if len(salient) else lengths.new_zeros(())
                (values, tokens), _ = _part(lists, slice(rows + i, rows + i + 1))
                found = replace(found, constant=ConstantPart(float(share), self.scored(values[0], tokens[0])))
            mappings.append(self._marked(found))
        return mappings

    def with_view(self, mapping: HeadMapping, view: RowsView) -> HeadMapping:
        """`mapping` with its tokens under another reading."""
        return self._marked(replace(mapping, same_tokens=view))

    def with_parts(self, mapping: HeadMapping, parts: tuple[HeadPart, ...]) -> HeadMapping:
        """`mapping` with the parts of its head."""
        return self._marked(replace(mapping, parts=parts))

    def _marked(self, mapping: HeadMapping) -> HeadMapping:
        """With the undertrained among all tokens that it shows."""
        return replace(mapping, undertrained=tuple(sorted(mapping.token_ids(held_out=True) & self.undertrained)))

    def _mapping(self, layer: int, head: int, sigma: Tensor, ids: Tensor, lists: Lists) -> HeadMapping:
        _check_numbers(f"{layer}.{head} of {self.checkpoint.name}", sigma, *(values for values, _ in lists))
        promoted, suppressed = (self._rows(sigma, ids, *one) for one in lists)
        top = self.settings.top
        return HeadMapping(
            model=self.checkpoint.name,
            fingerprint=self.checkpoint.fingerprint,
            layer=layer,
            head=head,
            settings=self.settings,
            rows=promoted[:top],
            suppressed_rows=suppressed[:top],
            held_out_rows=promoted[top:],
        )

    def _rows(self, sigma: Tensor, ids: Tensor, scores: Tensor, found: Tensor) -> tuple[MappingRow, ...]:
        text = self.checkpoint.vocabulary.text
        rows = zip(ids.tolist(), sigma.tolist(), scores, found, strict=True)
        return tuple(
            MappingRow(text(source), source, salience, self.scored(values, targets))
            for source, salience, values, targets in rows
            if salience >= 0  # fewer tokens may be listed than were asked for
        )

    def scored(self, scores: Tensor, found: Tensor) -> tuple[ScoredToken, ...]:
        """Targets of one row with their scores, without those that may not be listed."""
        text = self.checkpoint.vocabulary.text
        pairs = zip(found.tolist(), scores.tolist(), strict=True)
        return tuple(ScoredToken(text(t), t, v) for t, v in pairs if abs(v) != float("inf"))


def _part(lists: Lists, rows: slice) -> Lists:
    """Some rows of promoted and suppressed targets."""
    (promoted, p), (suppressed, s) = lists
    return (promoted[rows], p[rows]), (suppressed[rows], s[rows])


def _check_numbers(head: str, sigma: Tensor, *scores: Tensor) -> None:
    """Raise BrokenCheckpoint where weights that are no numbers, or too large, came through. -inf marks "not listed"."""
    if bool((sigma.isnan() | sigma.isposinf()).any()) or any(bool(one.isnan().any()) for one in scores):
        raise BrokenCheckpoint(
            f"what head {head} does is not a finite number",
            expected="weights without NaN or infinities",
            next_step="Check the checkpoint; a download or a conversion may have spoilt it.",
        )
