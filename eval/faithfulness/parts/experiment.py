"""One part's directions taken out of what a head writes, in the running model.

For heads of a stored run with several operations in different parts. What a head writes for a tested word of an
operation is put into the running model as in `eval.faithfulness.final_logits`, whole and without the directions of one
part; how far the word's target rises in the model's own final logits is compared. Taking out the operation's own part
should cost it much, and taking out the part of the head's other operation little. Two controls: as many random
directions taken out; and what the own part takes out of a row put in along random directions instead, noise as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from agent.checks.claims import claimed_operation
from agent.results.outcomes import HeadOperation
from agent.runs.stored import StoredHead, stored_heads
from eval.faithfulness.bench import Bench
from eval.faithfulness.descriptions.named_heads import run_of_checkpoint
from eval.faithfulness.final_logits.asked import neutral_prompts
from eval.faithfulness.final_logits.effects import moved_logits, shift_of, source_values
from eval.statistics.intervals import interval_of_mean
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.parts.head_parts import PartAxes
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.format import Relation
from maps_engine.results import EngineSettings

if TYPE_CHECKING:
    from sqlalchemy import Engine

KIND: Final = "parts"
MIN_WORDS: Final = 5  # tested words of an operation that it holds for
DRAWS: Final = 5  # of random directions
K: Final = 10
TAKEN: Final = ("own", "other", "random", "noise")


@dataclass(frozen=True)
class _Asked:
    """One operation of a head: the words that it holds for, each with its strongest accepted target."""

    head: tuple[int, int]
    operation: str
    part: int
    words: tuple[int, ...]
    targets: tuple[int, ...]


def parts_removed(bench: Bench, engine: Engine, run: int | None, *, directions: int = 1) -> dict[str, Any]:
    """How far targets rise with whole heads and with one part taken out, as plain JSON values.

    run: of the database behind `engine`, the newest finished one of the checkpoint by default; `directions` of each
    part are taken out. Raises UnknownRun, UserMistake for a run of another model, and what opening the running model
    raises.
    """
    run_id = run_of_checkpoint(engine, run, bench.checkpoint)
    relations = load_relations()
    pairs_of_heads = ((one, _two_operations(one, relations)) for one in stored_heads(engine, run_id))
    asked = [(one, pair) for one, pair in pairs_of_heads if pair is not None]
    _check_readings([one for one, _ in asked])
    rows: list[dict[str, Any]] = []
    changed, maps = 0, MapsEngine(bench.checkpoint, asked[0][0].settings if asked else EngineSettings())
    for done, (head, (first, second)) in enumerate(asked):
        if _same_parts(maps, head):
            pairs = ((first, second), (second, first))
            rows += [_row(bench, maps, one, other.part, directions) for one, other in pairs]
        else:
            changed += 1
        bench.progress("heads with a part taken out", done + 1, len(asked))
    about = {"run": run_id, "directions": directions, "draws": DRAWS, "changed": changed}
    return about | {"lost": _lost(rows), "operations": rows}


def _check_readings(heads: Sequence[StoredHead]) -> None:
    """Raises UserMistake where parts are of values that the running model has not."""
    others = {one.source for one in heads} - {"residual"}
    if others:
        raise UserMistake(
            "parts that were read off weights alone cannot be taken out of the running model",
            got=f"a run read through {', '.join(map(str, sorted(others, key=str)))}",
            expected="a run of label-heads --source residual",
        )


def _same_parts(maps: MapsEngine, head: StoredHead) -> bool:
    """Whether the parts that are found here are those that the run numbered."""
    (found,) = maps.with_parts([head.mapping])
    words = [[[row.token_id for row in part.rows] for part in parts] for parts in (found.parts, head.parts)]
    return words[0] == words[1]


def _two_operations(head: StoredHead, relations: Sequence[Relation]) -> tuple[_Asked, _Asked] | None:
    """The head's first two operations that share no part, with enough words each."""
    found: list[tuple[HeadOperation, _Asked]] = []
    for one in head.operations:
        asked = _asked(head, one, relations)
        apart = all(not set(one.parts) & set(other.parts) for other, _ in found)
        if asked is not None and apart and len(asked.words) >= MIN_WORDS:
            found.append((one, asked))
    return (found[0][1], found[1][1]) if len(found) > 1 else None


def _asked(head: StoredHead, one: HeadOperation, relations: Sequence[Relation]) -> _Asked | None:
    claim = claimed_operation(one.operation, relations)
    if claim is None or one.part is None:
        return None
    words, targets = [], []
    for tested in one.test.tested_rows:
        alone = (t for t in tested.row.targets if claim.satisfied(replace(tested.row, targets=(t,))))
        target = next(alone, None) if tested.hit else None
        if target is not None:
            words.append(tested.row.token_id)
            targets.append(target.token_id)
    return _Asked((head.layer, head.head), one.operation, one.part, tuple(words), tuple(targets))


def _row(bench: Bench, maps: MapsEngine, asked: _Asked, other: int, directions: int) -> dict[str, Any]:
    """z of the targets and share of them among the K, with the whole head and with parts taken out."""
    layer, head = asked.head
    axes = maps.part_axes(layer, head, n=directions)
    start = bench.checkpoint.vocabulary.start
    with bench.timed("values of sources"):
        values = source_values(bench.model, start, asked.words, batch=bench.batch)[layer]
    own = values[:, bench.model.shape.value_head_of(head)].to(axes.mean)
    parts = {"own": asked.part, "other": other}
    kinds = {"whole": [own]} | {name: [_without(axes, own, axes.directions[part])] for name, part in parts.items()}
    kinds["random"] = [_without(axes, own, _random(axes, draw)) for draw in range(DRAWS)]
    kinds["noise"] = [_noised(axes, own, axes.directions[asked.part], _random(axes, draw)) for draw in range(DRAWS)]
    with bench.timed("heads put into the model"):
        found = {kind: _mean([_effect(bench, asked, one) for one in drawn]) for kind, drawn in kinds.items()}
    effects = {kind: {"z": z, "hit": hit} for kind, (z, hit) in found.items()}
    about = {"layer": layer, "head": head, "operation": asked.operation, "words": len(asked.words)}
    return about | {"part": asked.part, "other_part": other} | effects


def _without(axes: PartAxes, values: Tensor, along: Tensor) -> Tensor:
    """Values (n, d_h) whose rows have nothing along the orthonormal directions `along` (m, d_h)."""
    rows = axes.rows(values)
    return axes.values(rows - rows @ along.T @ along)


def _noised(axes: PartAxes, values: Tensor, along: Tensor, chance: Tensor) -> Tensor:
    """Values whose rows have what they have along `along` put in along `chance` (m, d_h) instead of taken out."""
    rows = axes.rows(values)
    return axes.values(rows - rows @ along.T @ chance)


def _random(axes: PartAxes, seed: int) -> Tensor:
    """(m, d_h): as many orthonormal directions as a part's, at random."""
    shape = axes.directions.shape[1:]
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(axes.directions)
    return torch.linalg.qr(drawn.T).Q.T


def _effect(bench: Bench, asked: _Asked, values: Tensor) -> tuple[float, float]:
    """z of the targets and share among the K, means over words and neutral prompts."""
    layer, head = asked.head
    written = values @ bench.checkpoint.weights.attention(layer).output[head].to(values)
    wanted = torch.tensor(asked.targets)[:, None]
    found = []
    for prompt in neutral_prompts(bench.maker):
        z, hit = shift_of(moved_logits(bench.model, torch.tensor(prompt), layer, written), wanted, K)
        found.append((float(z.mean()), float(hit.mean())))
    return _mean(found)


def _mean(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(z for z, _ in found) / len(found), sum(hit for _, hit in found) / len(found)


def _lost(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By what is taken out, z that is lost, a mean over heads with its 95 % interval; empty without operations.

    A head's two operations take each other's parts out, so they are one observation.
    """
    found = {}
    for kind in TAKEN if rows else ():
        each = [row["whole"]["z"] - row[kind]["z"] for row in rows]
        lost = [sum(each[i : i + 2]) / 2 for i in range(0, len(each), 2)]
        low, high = interval_of_mean(lost) or (None, None)
        found[kind] = {"value": sum(lost) / len(lost), "low": low, "high": high}
    return found
