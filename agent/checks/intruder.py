"""Can the rows of a head be told from what other heads make of the same tokens? No description is needed.

One trial: four rows of the head and one intruder, a fifth of its salient tokens with the targets that another head of
the layer gives it. Whoever knows the head's function finds the intruder; where nothing links sources and targets nobody
can. All five sources are the head's own, so that only what the head makes of them can tell the rows apart.

The judge without a language model: offsets between word vectors of source and targets, and operations of form; the
intruder is the row least like the other four. Guessing finds 1 in 5. The topic of the targets is left out on purpose:
a head with random weights has favourite targets too, and a judge that sees them tells its rows from those of others
although it does nothing (tests/benchmarks/calibrate_intruder.py). The cost: a head that sends all inputs to the same
few words is recognised less often.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agent.results.evidence import IntruderTest
from agent.words.embedder import Vectors
from agent.words.fields import SemanticFields
from agent.words.forms import FORMS
from agent.words.spelling import core
from maps_engine.engine import MapsEngine
from maps_engine.results import HeadMapping, MappingRow

TRIALS: Final = 60
ROWS: Final = 5  # of a trial, the intruder among them
OTHER_HEADS: Final = 4
OFFSET_WEIGHT: Final = 1.0
FORM_WEIGHT: Final = 2.0
CHANCE_LIKE: Final = 0.40  # found at most this often: 95 % of heads with weights of chance (SmolLM2-135M)


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows in random order and where the intruder stands."""

    rows: tuple[MappingRow, ...]
    intruder: int


def intruder_test(
    mapping: HeadMapping, engine: MapsEngine, judge: EmbeddingJudge, *, n: int = TRIALS
) -> IntruderTest | None:
    """How often `judge` finds the intruder among shown rows; None where there is no other head or too few rows."""
    strangers = rows_of_others(mapping, engine)
    trials = make_trials(mapping, strangers, n=n)
    if not trials:
        return None
    picked = judge.pick([trial.rows for trial in trials])
    found = sum(trial.intruder == choice for trial, choice in zip(trials, picked, strict=True))
    return IntruderTest(judge.name, found, len(trials), 1 / ROWS)


def rows_of_others(mapping: HeadMapping, engine: MapsEngine) -> tuple[MappingRow, ...]:
    """The head's salient tokens with targets of other heads of its layer, those of another value head first."""
    shape = engine.shape
    own = shape.value_head_of(mapping.head)
    others = [head for head in range(shape.n_heads) if head != mapping.head]
    unlike = [head for head in others if shape.value_head_of(head) != own] or others
    chance = _chance(mapping)
    chosen = chance.sample(unlike, min(OTHER_HEADS, len(unlike)))
    if not chosen:
        return ()
    ids = [row.token_id for row in mapping.rows]
    at = engine.at(mapping.source)
    found: dict[int, MappingRow] = {}
    for place, head in enumerate(chosen):
        part = ids[place :: len(chosen)]
        found |= {row.token_id: row for row in at.rows_of(mapping.layer, head, part)}
    return tuple(found[i] for i in ids)


def make_trials(mapping: HeadMapping, strangers: Sequence[MappingRow], *, n: int) -> list[Trial]:
    """`n` trials, always the same for the same head; none where rows or strangers are too few."""
    rows = mapping.rows
    if len(rows) < 2 * ROWS or len(strangers) != len(rows):
        return []
    chance = _chance(mapping)
    trials = []
    for _ in range(n):
        *own, stranger = chance.sample(range(len(rows)), ROWS)
        place = chance.randrange(ROWS)
        shown = [rows[i] for i in own]
        shown.insert(place, strangers[stranger])
        trials.append(Trial(tuple(shown), place))
    return trials


class EmbeddingJudge:
    """The row least like the others, by word vectors and spelling."""

    def __init__(self, fields: SemanticFields) -> None:
        self._fields = fields
        self.name = f"embeddings ({fields.embedder_name})"

    def pick(self, trials: Sequence[Sequence[MappingRow]]) -> list[int]:
        """The index of the row with the smallest mean cosine to the others of its trial."""
        rows = list(dict.fromkeys(row for trial in trials for row in trial))
        words = {core(w) for row in rows for w in (row.token, *(t.token for t in row.targets)) if core(w)}
        self._fields.vectors(sorted(words))  # one batch
        vectors = {row: self._vector(row) for row in rows}
        return [_least_alike(np.stack([vectors[row] for row in trial])) for trial in trials]

    def _vector(self, row: MappingRow) -> Vectors:
        source = core(row.token)
        targets = [core(t.token) for t in row.targets if core(t.token)]
        targets = [t for t in targets if t != source] or targets
        read = self._words([source])[0] if source else np.zeros_like(self._fields.centre)
        made = self._words(targets).mean(axis=0) if targets else np.zeros_like(read)
        form = np.array([any(f.holds(row.token, t.token) for t in row.targets) for f in FORMS], dtype=np.float32)
        return np.concatenate([OFFSET_WEIGHT * _unit(made - read), FORM_WEIGHT * _unit(form)]).astype(np.float32)

    def _words(self, words: Sequence[str]) -> Vectors:
        vectors: Vectors = self._fields.vectors(words) - self._fields.centre
        return vectors


def _least_alike(vectors: Vectors) -> int:
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, 0.0)
    return int(alike.sum(axis=1).argmin())


def _unit(vector: Vectors) -> Vectors:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else vector


def _chance(mapping: HeadMapping) -> random.Random:
    return random.Random(f"{mapping.fingerprint}/{mapping.layer}/{mapping.head}/{mapping.source}")
