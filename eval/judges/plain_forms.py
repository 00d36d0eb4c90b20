"""A rating study's two questions answered by form alone: the first target of each row, and words of the description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from eval.judges.protocol import Assessment
from eval.judges.said import Said
from maps_engine.results import MappingRow

MOST_ROWS: Final = 0.5  # share of rows from which on a relation is the rows' pattern
Pair = tuple[str, str]  # source and first target, casefolded
RELATIONS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "same": lambda s, t: s == t,
    "first": lambda s, t: len(t) == 1 and s[:1] == t,
    "last": lambda s, t: len(t) == 1 and s[-1:] == t,
    "stem": lambda s, t: s != t and len(s) > 2 and len(t) > 2 and s[:3] == t[:3],
}
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "same": ("copy", "copies", "itself", "same", "repeat"),
    "first": ("first letter", "initial"),
    "last": ("last letter", "final letter"),
    "stem": ("form", "tense", "plural", "comparative", "superlative", "ending", "suffix", "variant"),
}


def assess_forms(said: Said, rows: Sequence[MappingRow]) -> Assessment:
    """Pattern: one simple relation of strings holds in at least half of the rows. Plausible: the description names it.

    Where form shows no pattern, a description that holds words of the rows is partly plausible, and any other one
    cannot be judged: form says nothing about meaning.
    """
    pairs = [(row.token.strip().casefold(), row.targets[0].token.strip().casefold()) for row in rows if row.targets]
    text = f"{said.input_strings} {said.observed_pattern}".casefold()
    if not pairs:
        return Assessment("no", "cannot")
    best = max(RELATIONS, key=lambda name: _share(name, pairs))
    if _share(best, pairs) >= MOST_ROWS:
        return Assessment("yes", "yes" if any(word in text for word in NAMES[best]) else "no")
    words = {word for pair in pairs for word in pair if len(word) > 3}
    return Assessment("no", "partly" if any(word in text for word in words) else "cannot")


def _share(name: str, pairs: Sequence[Pair]) -> float:
    return sum(RELATIONS[name](source, target) for source, target in pairs) / len(pairs)
