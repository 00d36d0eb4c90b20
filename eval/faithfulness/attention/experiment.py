"""Attention read from weights against attention in the running model; resumable, one file for each batch of texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from agent.pipeline.attention import attention_rules
from eval.faithfulness.attention import classes
from eval.faithfulness.attention.classes import FEWEST, FLOOR, ClassMeasure, ClassTexts, MeasuredClasses, Pair, pairs_of
from eval.faithfulness.attention.measured import EARLIEST, EVERY, Means, Predicted, repeat_means, text_means
from eval.faithfulness.attention.readings import KIND, ReadHeads, read_heads
from eval.faithfulness.attention.summary import AttentionTable, Run, weighted
from eval.faithfulness.attention.texts import MAX_TOKENS, Pieces, Text, cut, repeated_tokens
from eval.faithfulness.bench import Bench
from maps_engine.null_heads import VERSION, null_checkpoint
from maps_engine.qk.made_texts import SEES
from maps_engine.qk.readings import read_behind

TOGETHER: Final = 16  # texts of a batch, at most: their attention in all layers is in memory at once
NULL_PIECES: Final = 16  # first ones of each text, whose keys null heads are asked for


def attention(bench: Bench, texts: Sequence[Text], *, max_tokens: int = MAX_TOKENS, seed: int = 0) -> AttentionTable:
    """Real attention of all heads beside what is read; `seed` is that of the null heads.

    Raises UserMistake (texts too short, texts that begin with no known token), UnsupportedModel (too few places,
    attention that cannot be read), AttentionOutOfReach, MixedResults, and what opening the running model raises.
    """
    checkpoint = bench.checkpoint
    pieces, repeats = cut(texts, checkpoint.vocabulary, max_tokens), repeated_tokens(checkpoint.vocabulary)
    start = len(checkpoint.vocabulary.start)
    checkpoint.weights.texts(pieces[0].ids[:1].to(checkpoint.weights.device), start=start, sees=SEES)  # or refused
    null = null_checkpoint(checkpoint, seed=seed)
    read = read_heads(bench, null, seed=seed)
    predicted = Predicted(checkpoint.weights, null.weights, checkpoint.vocabulary.start, read_behind(checkpoint))
    in_texts = _Stage(bench, "texts in the running model", sum(len(one.ids) for one in pieces))
    runs = [in_texts.run(one, predicted, seed) for one in pieces]
    in_repeats = _Stage(bench, "repeated tokens in the running model", len(repeats))
    repeated = in_repeats.run(Pieces("repeated tokens", "", repeats), None, seed)
    return AttentionTable(checkpoint.weights.shape, read, tuple(runs), repeated, _between_classes(bench, read))


def _between_classes(bench: Bench, read: ReadHeads) -> dict[Pair, ClassMeasure]:
    """Each pair of classes that a head is said to attend from and to: from the folder, or measured and stored.

    Pairs of which too few texts can be used are left out.
    """
    texts = ClassTexts(bench.checkpoint.vocabulary)
    pairs = [pair for pair in pairs_of(read.claims) if int(texts.usable(pair).sum()) >= FEWEST]
    found: dict[Pair, ClassMeasure] = {}
    measured: MeasuredClasses | None = None
    for done, pair in enumerate(pairs):
        digest = texts.digest(pair)
        about = {"classes": list(pair), "texts": digest, "floor": FLOOR, "measured": classes.VERSION}
        place, identity = f"{KIND}/classes-{digest}", bench.running_identity(KIND, **about)
        stored: dict[str, Any] | None = bench.folder.read(place, identity)
        if stored is None:
            measured = measured or MeasuredClasses(bench.model, texts, min(bench.batch, TOGETHER))
            with bench.timed("classes in the running model"):
                stored = measured.measure(pair).to_json()
            bench.folder.write(place, identity, stored)
        found[pair] = ClassMeasure.from_json(stored)
        bench.progress("classes in the running model", done + 1, len(pairs))
    return found


def _digest(ids: Sequence[Tensor]) -> str:
    return hashlib.sha256(json.dumps([one.tolist() for one in ids]).encode()).hexdigest()[:12]


@dataclass
class _Stage:
    """Texts that run one after the other under one bar."""

    bench: Bench
    name: str
    total: int  # pieces
    done: int = 0

    def run(self, pieces: Pieces, predicted: Predicted | None, seed: int) -> Run:
        """All batches of a text, or of tokens that repeat, of which nothing is `predicted`."""
        found: list[tuple[int, Means]] = []
        n_null = 0 if predicted is None else min(len(pieces.ids), NULL_PIECES)
        without_null = None if predicted is None else replace(predicted, null=None)
        for part, asked in ((pieces.ids[:NULL_PIECES], predicted), (pieces.ids[NULL_PIECES:], without_null)):
            for batch in part.split(min(self.bench.batch, TOGETHER)) if len(part) else ():
                found.append((len(batch), self._batch(batch, asked, seed)))
                self.done += len(batch)
                self.bench.progress(self.name, self.done, self.total)
        return Run(pieces.name, pieces.source, len(pieces.ids), n_null, _joined(found))

    def _batch(self, ids: Tensor, predicted: Predicted | None, seed: int) -> Means:
        """Read from the folder, or measured and stored."""
        asks_null = predicted is not None and predicted.null is not None
        digest = _digest([ids])
        place = f"{KIND}/{digest}" + (f"-null-{seed}" if asks_null else "")
        about = {"ids": digest, "earliest": EARLIEST, "every": EVERY, "rules": attention_rules(), "null": VERSION}
        identity = self.bench.running_identity(KIND, **about)
        stored: dict[str, Any] | None = self.bench.folder.read(place, identity)
        if stored is None:
            model = self.bench.model  # opened before the clock starts
            with self.bench.timed(self.name):
                means = repeat_means(model, ids) if predicted is None else text_means(model, predicted, ids)
            stored = {name: _rounded(one) for name, one in means.items()}
            self.bench.folder.write(place, identity, stored)
        return {name: torch.tensor(one, dtype=torch.float64) for name, one in stored.items()}


def _joined(parts: Sequence[tuple[int, Means]]) -> Means:
    """The mean over pieces of means over batches of so many; null heads are in the first batches alone."""
    names = parts[0][1]
    having = {name: [(n, one[name]) for n, one in parts if name in one] for name in names}
    return {name: weighted([one for _, one in found], [n for n, _ in found]) for name, found in having.items()}


def _rounded(means: Tensor) -> list[list[float]]:
    return [[round(one, 6) for one in layer] for layer in means.double().tolist()]
