"""X as the heads of each layer are really given it: the residual stream behind a lead-in, through the layer's own norm.

X_l(t) is what reaches the value projection of layer l at the position of token t when the model reads the start of its
texts and then t, before the norm's gain and bias, which `folding` puts into W_V (docs/method.md, "What a head really
reads"). With several lead-ins it is the mean. Rows are rounded to float16 wherever they come from, so that they do not
depend on whether they were kept on disk; behind a norm they are of size 1, and 11 bits of them are kept.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint, ModelWeights, Residuals, Vocabulary
from maps_engine.ov.kept_rows import KeptRows
from maps_engine.ov.sources import standardised

Passed = Callable[[int, int], None]
WALKS = 4  # sets of tokens of which the place in the model is remembered


def unseen(done: int, wanted: int) -> None:
    """Progress that is not shown."""


def open_residuals(
    checkpoint: Checkpoint, lead_in: Sequence[str], *, part: Tensor | None = None, passed: Passed = unseen
) -> ResidualTable:
    """X of `checkpoint` behind each of the texts `lead_in`, which follow the token that its texts begin with.

    `part` (n,) of ids are the tokens that are read together and kept, rising; None means the whole vocabulary.
    Raises UserMistake where no such token is known and a lead-in is empty, or a lead-in has no tokens.
    """
    weights, shape = checkpoint.weights, checkpoint.weights.shape
    ids = [lead_in_ids(checkpoint.vocabulary, text) for text in lead_in]
    tokens = torch.arange(shape.vocab_size) if part is None else part
    of_part = {} if part is None else {"tokens": hashlib.sha256(tokens.cpu().numpy().tobytes()).hexdigest()}
    identity = {"fingerprint": checkpoint.fingerprint, "lead_ins": ids, "dtype": str(weights.dtype), **of_part}
    kept = KeptRows(identity, n_layers=shape.n_layers, rows=len(tokens), width=shape.d_model)
    return ResidualTable(weights, ids, kept, tokens.to(weights.device), passed)


def lead_in_ids(vocabulary: Vocabulary, text: str) -> tuple[int, ...]:
    """Ids of the start of texts and `text`. Raises UserMistake where there are none, or `text` cannot be encoded."""
    own = vocabulary.encode(text) if text else []
    unknown = [i for i in own if vocabulary.kind(i) in ("special", "unused")]
    if unknown or (text.strip() and not own):
        raise UserMistake("the lead-in has tokens that this model does not know", got=repr(text))
    found = (*vocabulary.start, *own)
    if not found:
        raise UserMistake(
            "this model's texts begin with no token that is known",
            got="a tokenizer without a start of sequence and without a document separator",
            next_step='Give a text to read before each token: --lead-in "text".',
        )
    return found


class ResidualTable:
    """Rows of X for any layer; the interface `sources.Sources`.

    Asking for layers in rising order costs one pass through the blocks. The tokens `part`, the whole vocabulary or
    what of it is read, take minutes on a processor, so each layer of them that is passed is kept in `kept`, and
    `passed` is told (layers done, layers wanted); a few other tokens take a second.
    """

    def __init__(
        self,
        weights: ModelWeights,
        lead_ins: Sequence[tuple[int, ...]],
        kept: KeptRows,
        part: Tensor,
        passed: Passed = unseen,
    ) -> None:
        self._weights, self._lead_ins, self.kept, self._passed = weights, tuple(lead_ins), kept, passed
        self._part = part
        self._place = torch.full((weights.shape.vocab_size,), -1, device=part.device)
        self._place[part] = torch.arange(len(part), device=part.device)
        self._held: tuple[int, Tensor] | None = None
        self._whole: _Walk | None = None
        self._few: OrderedDict[tuple[int, ...], _Walk] = OrderedDict()

    @property
    def weights(self) -> ModelWeights:
        return self._weights

    def rows(self, layer: int, ids: Tensor | slice) -> Tensor:
        """(n, d): X of the tokens `ids` as heads of `layer` read them."""
        places = self._place[ids]
        if bool((places >= 0).all()):
            if isinstance(ids, slice) or (self._held and self._held[0] == layer):
                return self.hold(layer)[places]
            kept = self.kept.read(layer)
            if kept is not None:
                return self._placed(kept[places.cpu()])
        alone = torch.arange(len(self._place), device=places.device)[ids] if isinstance(ids, slice) else ids
        return self._walk_of(alone, layer).at(layer).to(torch.float16).to(self.weights.dtype)

    def hold(self, layer: int) -> Tensor:
        """(n, d): rows of the part, kept in memory until another layer is asked for."""
        if self._held is None or self._held[0] != layer:
            self._held = None
            kept = self.kept.read(layer)
            self._held = layer, self._placed(self._computed(layer) if kept is None else kept)
        return self._held[1]

    def is_stored(self, layer: int) -> bool:
        """Never: X is computed."""
        return False

    def version(self, layer: int) -> int:
        """Layers of equal version have the same X."""
        return layer

    def _computed(self, layer: int) -> Tensor:
        """(n, d) float16, by the walk of the part through the blocks that all layers share."""
        if self._whole is None or self._whole.layer > layer:
            self._whole = _Walk(self.weights, self._part, self._lead_ins)
        for passed in range(self._whole.layer, layer + 1):
            self._passed(passed, layer)
            rows = self._whole.at(passed).to(torch.float16)
            if not self.kept.has(passed):
                self.kept.write(passed, rows)
        return rows

    def _placed(self, rows: Tensor) -> Tensor:
        return rows.to(device=self.weights.device, dtype=self.weights.dtype)

    def _walk_of(self, ids: Tensor, layer: int) -> _Walk:
        key = tuple(ids.tolist())
        walk = self._few.pop(key, None)
        if walk is None or walk.layer > layer:
            walk = _Walk(self.weights, ids, self._lead_ins)
        self._few[key] = walk
        if len(self._few) > WALKS:
            self._few.popitem(last=False)
        return walk


class _Walk:
    """Some tokens on their way through the blocks, behind each lead-in."""

    def __init__(self, weights: ModelWeights, ids: Tensor, lead_ins: Sequence[tuple[int, ...]]) -> None:
        self._weights = weights
        self._streams: list[Residuals] = [weights.residuals(ids, lead_in) for lead_in in lead_ins]
        self.layer = 0

    def at(self, layer: int) -> Tensor:
        """(n, d): what the tokens look like in front of `layer`, which is not below the last one asked for."""
        norm = self._weights.attention_norm(layer)
        total: Tensor | None = None
        for stream in self._streams:
            while stream.layer < layer:
                stream.advance()
            rows = stream.rows if norm is None else standardised(stream.rows, norm)
            total = rows.clone() if total is None else total.add_(rows)
        assert total is not None
        self.layer = layer
        return total.div_(len(self._streams))
