"""`--source auto`: the best reading of a model that fits the machine, by a rule on sizes alone.

Scores read under the residual stream agree best with the running model (docs/method.md, "What a head really reads"),
so it is taken wherever its price is minutes: letting n tokens pass blocks of P weights costs about 2 n P operations.
The rule looks at the model and at whether it lies on an accelerator, not at how fast this machine is, so that the same
command makes the same run on every machine of a kind.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import torch

from maps_engine.errors import UnsupportedModel
from maps_engine.model import Checkpoint, ModelWeights
from maps_engine.results import EngineSettings

ON_PROCESSOR = 2e13  # operations: five minutes on two slow cores
ON_ACCELERATOR = 2e16
MOST_WORDS = 16384
FEWEST_WORDS = 2048  # with fewer, heads that read rare words have none to show


def fitted(settings: EngineSettings, checkpoint: Checkpoint) -> EngineSettings:
    """The settings with "auto" made into a representation, and words into a number or None for all tokens."""
    if settings.source != "auto":
        return settings if settings.words != 0 else replace(settings, words=None)
    weights = checkpoint.weights
    most = room(weights)
    each = most
    if checkpoint.vocabulary.start or any(settings.lead_in):  # else there is nothing to read before a token
        with suppress(UnsupportedModel):  # its blocks cannot be run
            each = 2.0 * weights.block_parameters * len(settings.lead_in)
    words = MOST_WORDS
    while words > FEWEST_WORDS and words * each > most:
        words //= 2
    if words * each <= most:
        return replace(settings, source="residual", words=(words if settings.words is None else settings.words) or None)
    source = "first-mlp" if _has_first_mlp(checkpoint) else "embedding"
    return replace(settings, source=source, words=settings.words or None)


def fits(n_tokens: int, settings: EngineSettings, checkpoint: Checkpoint) -> bool:
    """Whether `n_tokens` may pass all blocks of this model within what a reading may cost here; always where none can.

    Blocks that cannot run are not run: such a model is read without them.
    """
    weights = checkpoint.weights
    with suppress(UnsupportedModel):
        return n_tokens * 2.0 * weights.block_parameters * len(settings.lead_in) <= room(weights)
    return True


def room(weights: ModelWeights) -> float:
    """How many operations a reading may cost here."""
    return ON_PROCESSOR if weights.device.type == "cpu" else ON_ACCELERATOR


def seconds(settings: EngineSettings, checkpoint: Checkpoint, *, layer: int) -> float:
    """About what reading salient tokens of all layers up to `layer` takes here, by the pace of one product.

    Nothing to speak of but under `residual`, where nothing is kept from before.
    """
    weights = checkpoint.weights
    if settings.source != "residual":
        return 0.0
    tokens = (settings.words or weights.shape.vocab_size) * len(settings.lead_in)
    blocks = weights.block_parameters * layer / weights.shape.n_layers
    return 2.0 * tokens * blocks / _pace(weights)


def _pace(weights: ModelWeights) -> float:
    """Operations a second of a product of the size that blocks have."""
    width = weights.shape.d_model
    rows, matrix = (torch.ones(n, width, device=weights.device, dtype=weights.dtype) for n in (256, 4 * width))
    started = time.perf_counter()
    for _ in range(8):
        total = (rows @ matrix.T).sum()
    total.item()  # an accelerator has finished by then
    return 8 * 2.0 * 256 * width * 4 * width / (time.perf_counter() - started)


def _has_first_mlp(checkpoint: Checkpoint) -> bool:
    """Whether block 0 has one MLP: a mixture of experts has several."""
    weights = checkpoint.weights
    try:
        weights.first_mlp(weights.embedding(slice(0, 1)))
    except UnsupportedModel:
        return False
    return True
