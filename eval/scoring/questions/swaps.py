"""Which description is swapped in for which, and whose rows serve as foreign rows.

A head that does the same thing cannot be a control: a description of copying is right for every copying head. So
operations are compared by family (copying with case variants is copying), and a swap changes the family wherever that
is possible. Foreign rows come from heads of neither the own nor the swapped family: the swapped description is then
wrong about own and foreign rows alike, and scores as guessing does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.words.forms import FORM_BY_NAME
from eval.scoring.results import HeadKey, Subject


@dataclass(frozen=True, slots=True)
class Swap:
    """The head whose description is swapped in; `same_operation` where no other family was left."""

    giver: HeadKey
    same_operation: bool


def family_of(operation: str) -> str:
    """What two labels of the same thing have in common: the widest operation of form, else the label in casefold."""
    label = " ".join(operation.casefold().split())
    form = FORM_BY_NAME.get(label)
    return form.general or label if form is not None else label


def swaps(families: Mapping[HeadKey, str], *, seed: int) -> dict[HeadKey, Swap]:
    """For each head another one, so that as many as possible get a description of another family; {} for one head.

    Heads are put in a row by family, families in random order, and each takes the description of the head that is as
    many places further on as the largest family has members. That is another family for all of them, unless one
    family holds more than half of the heads.
    """
    if len(families) < 2:
        return {}
    chance = random.Random(f"swaps {seed}")
    counts = Counter(families.values())
    blocks = sorted(counts)
    chance.shuffle(blocks)
    order: list[HeadKey] = []
    for family in blocks:
        members = sorted(key for key, own in families.items() if own == family)
        chance.shuffle(members)
        order += members
    n = len(order)
    step = max(counts.values()) if len(counts) > 1 else chance.randrange(1, n)
    givers = {key: order[(place + step) % n] for place, key in enumerate(order)}
    return {key: Swap(giver, families[key] == families[giver]) for key, giver in givers.items()}


def foreign_heads(subject: Subject, swap: Swap | None, everyone: Sequence[Subject], *, seed: int) -> list[Subject]:
    """Heads whose rows may stand against those of `subject`, in random order; the best kind there is.

    First choice: neither family; then: not the own family; then: any other head. A head without a description has no
    family and may always serve.
    """
    chance = random.Random(f"foreign {seed} {subject.key}")
    by_key = {one.key: one for one in everyone}
    own = _family(subject)
    swapped = _family(by_key[swap.giver]) if swap else None
    others = [one for one in everyone if one.key != subject.key]
    unlike = [one for one in others if _family(one) is None or _family(one) != own]
    neither = [one for one in unlike if _family(one) is None or _family(one) != swapped]
    chosen = list(neither or unlike or others)
    chance.shuffle(chosen)
    return chosen


def _family(subject: Subject) -> str | None:
    return family_of(subject.description.operation) if subject.described else None
