"""The questions of each scorer, built once for a head; its own and the swapped description get the same ones.

Only held-out rows are used (salience ranks after those the describer saw), without those whose source the describer saw
in another spelling. No source is in two items of a scorer, so that no answer can be found by comparing items. A foreign
or permuted row that shares a target with the head's own row of that source would be right, and is left out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.words.spelling import core
from eval.scoring.questions.foreign_rows import RowsOf, Wanted
from eval.scoring.results import Item, Subject
from maps_engine.results import MappingRow, ScoredToken

ROWS_A_GROUP = 10  # rows in one question
SET_SIZE = 5  # rows in one set of the intruder test
TARGETS_A_SOURCE = 5
TRIES = 4  # other heads asked for a hard negative before the item is given up


@dataclass(frozen=True)
class Material:
    """What the items of one head are made of."""

    subject: Subject
    foreign: Sequence[Subject]  # heads whose rows may stand against it, in the order of use
    rows_of: RowsOf
    n: int  # items wanted for each scorer
    seed: int

    def chance(self, scorer: str) -> random.Random:
        """The same items for the same head, scorer and seed, whatever else is scored."""
        return random.Random(f"{scorer} {self.seed} {self.subject.key}")


Builder = Callable[[Material], list[Item]]


def unseen_rows(subject: Subject) -> list[MappingRow]:
    """Held-out rows with targets, whose source the describer saw in no spelling, each source once."""
    seen = {core(row.token) for row in subject.mapping.rows}
    found = []
    for row in subject.mapping.held_out_rows:
        if row.targets and core(row.token) not in seen:
            seen.add(core(row.token))
            found.append(row)
    return found


def detection_items(material: Material) -> list[Item]:
    """Half own rows; a quarter own sources with another head's targets; a quarter rows of other heads."""
    chance = material.chance("detection")
    rows = _shuffled(unseen_rows(material.subject), chance)
    own = rows[: min(material.n // 2, 2 * len(rows) // 3)]
    hard = _hard_rows(material, rows[len(own) :], material.n // 4, chance)
    other = _other_rows(material, {core(row.token) for row in rows}, len(own) - len(hard), chance)
    found = [(row, 1.0, "own") for row in own]
    found += [(row, 0.0, "same sources") for row in hard] + [(row, 0.0, "other rows") for row in other]
    return _in_groups(found, chance)


def fuzzing_items(material: Material) -> list[Item]:
    """Half own rows, half own sources with the targets of another row of the same head."""
    chance = material.chance("fuzzing")
    rows = _shuffled(unseen_rows(material.subject), chance)[: material.n]
    half = len(rows) // 2
    permuted = [_permuted(row, rows, chance) for row in rows[half:]]
    found = [(row, 1.0, "own") for row in rows[:half]]
    found += [(row, 0.0, "permuted") for row in permuted if row is not None]
    return _in_groups(found, chance) if any(permuted) else []


def intruder_items(material: Material) -> list[Item]:
    """Sets of four own rows and one intruder: in turn an own source with foreign targets, and a foreign row."""
    chance = material.chance("intruder")
    rows = _shuffled(unseen_rows(material.subject), chance)
    n_sets = min(max(3, material.n // 4), len(rows) // SET_SIZE)
    kept, spare = rows[: n_sets * (SET_SIZE - 1)], rows[n_sets * (SET_SIZE - 1) :]
    hard = _hard_rows(material, spare, (n_sets + 1) // 2, chance)
    other = _other_rows(material, {core(row.token) for row in rows}, n_sets - len(hard), chance)
    items: list[Item] = []
    for group, intruder in enumerate(_shuffled([*hard, *other], chance)):
        members = kept[group * (SET_SIZE - 1) : (group + 1) * (SET_SIZE - 1)]
        one_set = [Item(group, row, 1.0, "own") for row in members] + [Item(group, intruder, 0.0, "intruder")]
        items += _shuffled(one_set, chance)
    return items


def simulation_items(material: Material) -> list[Item]:
    """For each source its own targets, in their order, among targets of other sources of the head and of other heads.

    Any token outside a row's list scores below the last of the list, so the head's own order is known without weights.
    """
    chance = material.chance("simulation")
    rows = _shuffled(unseen_rows(material.subject), chance)
    items: list[Item] = []
    for group, row in enumerate(rows[: max(3, material.n // 4)]):
        own = row.targets[:TARGETS_A_SOURCE]
        candidates = [(target, float(len(own) - place), "own") for place, target in enumerate(own)]
        candidates += [(target, 0.0, "distractor") for target in _distractors(material, row, rows, chance)]
        items += [
            Item(group, replace(row, targets=(target,)), truth, kind)
            for target, truth, kind in _shuffled(candidates, chance)
        ]
    return items


def _hard_rows(material: Material, rows: Sequence[MappingRow], n: int, chance: random.Random) -> list[MappingRow]:
    """Up to `n` of the rows, each with the targets that another head gives to its source."""
    wanted = [row for row in rows[: n * 2] if material.foreign]
    found: list[MappingRow] = []
    for attempt in range(TRIES):
        if not wanted or len(found) >= n:
            break
        asked = [
            Wanted(row, material.foreign[(place + attempt) % len(material.foreign)], chance.randrange(1000))
            for place, row in enumerate(wanted)
        ]
        made = material.rows_of(asked)
        fits = [bool(new.targets) and not _share_targets(old, new) for old, new in zip(wanted, made, strict=True)]
        found += [new for new, good in zip(made, fits, strict=True) if good]
        wanted = [old for old, good in zip(wanted, fits, strict=True) if not good]
    return found[:n]


def _other_rows(material: Material, taken: set[str], n: int, chance: random.Random) -> list[MappingRow]:
    """`n` rows of other heads, one a head in turn, none with a source that is in `taken`."""
    found: list[MappingRow] = []
    pools = [_shuffled(unseen_rows(other), chance) for other in material.foreign[: max(n, 1) * 2]]
    for row in _in_turn(pools):
        if len(found) == n:
            break
        if core(row.token) not in taken:
            taken.add(core(row.token))
            found.append(row)
    return found


def _in_turn(pools: Sequence[list[MappingRow]]) -> Iterator[MappingRow]:
    for place in range(max(map(len, pools), default=0)):
        yield from (pool[place] for pool in pools if place < len(pool))


def _permuted(row: MappingRow, rows: Sequence[MappingRow], chance: random.Random) -> MappingRow | None:
    """The source with the targets of another row that shares none with it; None where all rows share some."""
    others = [other for other in rows if other is not row and not _share_targets(row, other)]
    return replace(row, targets=chance.choice(others).targets) if others else None


def _distractors(
    material: Material, row: MappingRow, rows: Sequence[MappingRow], chance: random.Random
) -> list[ScoredToken]:
    """As many targets of other sources as the row has own ones: half of the same head where it has different ones."""
    taken = {core(target.token) for target in row.targets}
    n = min(len(row.targets), TARGETS_A_SOURCE)
    same = [target for other in rows if other is not row for target in other.targets]
    foreign = [t for other in material.foreign[:10] for r in other.mapping.held_out_rows[:10] for t in r.targets]
    found: list[ScoredToken] = []
    for pool, wanted in ((same, n - n // 2), (foreign, n), (same, n)):
        for target in _shuffled(pool, chance):
            if len(found) >= wanted:
                break
            if core(target.token) not in taken:
                taken.add(core(target.token))
                found.append(target)
    return found


def _share_targets(first: MappingRow, second: MappingRow) -> bool:
    """Whether a target of one is a target of the other, spelling aside."""
    return not {core(t.token) for t in first.targets}.isdisjoint(core(t.token) for t in second.targets)


def _in_groups(found: Sequence[tuple[MappingRow, float, str]], chance: random.Random) -> list[Item]:
    """Mixed, ten to a question."""
    mixed = _shuffled(found, chance)
    return [Item(place // ROWS_A_GROUP, row, truth, kind) for place, (row, truth, kind) in enumerate(mixed)]


def _shuffled(values: Sequence[Any], chance: random.Random) -> list[Any]:
    copy = list(values)
    chance.shuffle(copy)
    return copy
