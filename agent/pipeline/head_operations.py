"""All that a head does: every description that its test supports, each thing once, with the part that it is about.

The description that is recorded comes first, where its test supports it. Others follow by the share of the head's part
that their words belong to.
Of those that say the same one is told, the recorded one or the one with the clearest test: two say the same where half
of the words that each holds for satisfy the other, or those of one of them where both are about the same part, or
neither is about one. The one that is told then stands for the parts of both, and has the other's name beside its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agent.checks.choice import Tested, controlled
from agent.checks.claims import ClaimedClass, ClaimedFields, ClaimedOperation, claimed_operation
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import HeadOperation, TestResult
from agent.results.reports import HeadReport
from agent.words.spelling import core
from maps_engine.relations.catalogue import Relation
from maps_engine.results import HeadMapping, MappingRow

SAID: Final = "said"  # kind of an operation in a language model's own words
OF_PART: Final = 0.25  # of the words that what is said of a part holds for, those that have to belong to it
SAME: Final = 0.5  # of the tested words of one description that satisfy another


def supported(tested: Sequence[Tested]) -> tuple[HeadOperation, ...]:
    """The descriptions that their tests support, in their order."""
    return tuple(_operation(said, test) for said, test in tested if test.verdict == "supported" and said.status == "ok")


def _operation(said: HeadDescription, test: TestResult) -> HeadOperation:
    kind = said.claims[0].kind if said.claims else SAID
    kind = SAID if kind.endswith("-shown") else kind
    return HeadOperation(said.operation, said.observed_pattern, kind, test, said.part, describer=said.describer)


def with_operations(report: HeadReport, relations: Sequence[Relation]) -> HeadReport:
    """The report with each of its operations once, in order; their tested rows have been read."""
    said, test = report.description, report.test
    recorded = list(supported([(said, test)]))
    left = [one for one in report.operations if (one.operation, one.part) != (said.operation, said.part)]
    others = sorted(left, key=_clearest_first)
    found: list[HeadOperation] = []
    for one in (_placed(each, report.mapping) for each in (*recorded, *others)):
        place = _place_of_same(one, found, relations)
        if place is None:
            found.append(one)
        else:
            found[place] = _with_share(_joined(found[place], one), report.mapping)
    n = len(recorded)
    operations = (*found[:n], *sorted(found[n:], key=lambda one: -(one.share or 0.0)))
    parts = tuple(replace(part, members=frozenset(), common=()) for part in report.mapping.parts)  # thousands of ids
    return replace(report, operations=operations, mapping=replace(report.mapping, parts=parts))


def _clearest_first(one: HeadOperation) -> tuple[bool, float]:
    """Of two that say the same the one with a control is told, then the one that is furthest above it."""
    pairs = one.test.pairs
    return not controlled(one.test), (pairs.shuffled or 0.0) - pairs.score if pairs else 0.0


def _placed(one: HeadOperation, mapping: HeadMapping) -> HeadOperation:
    """With its part and that part's share.

    That is the part that it was counted in; the one that a language model said it of, where some of the words that it
    holds for belong to it (a test of pairs knows no parts, and would support the same of any); else the one that has
    more than half of these words.
    """
    if one.kind == "part":
        return _with_share(one, mapping)
    held = [row.row.token_id for row in one.test.tested_rows if row.hit]
    counts = Counter(place for word in held for place, part in enumerate(mapping.parts) if word in part.members)
    if one.part is not None and counts[one.part] >= OF_PART * len(held):
        return _with_share(one, mapping)
    place, n = max(counts.items(), key=lambda item: item[1], default=(0, 0))
    return _with_share(replace(one, part=place if 2 * n > len(held) else None), mapping)


def _with_share(one: HeadOperation, mapping: HeadMapping) -> HeadOperation:
    shares = [mapping.parts[place].share for place in one.parts]
    return replace(one, share=sum(shares) if shares else None)


def _joined(told: HeadOperation, other: HeadOperation) -> HeadOperation:
    """The one that is told, with the name and the parts of another that says the same."""
    names = tuple(name for name in other.names if name not in told.names)
    parts = () if told.part is None else tuple(place for place in other.parts if place not in told.parts)
    return replace(told, joined=(*told.joined, *parts), also=(*told.also, *names))


def _place_of_same(one: HeadOperation, told: Sequence[HeadOperation], relations: Sequence[Relation]) -> int | None:
    """Where the operation stands that has the same name, else one that says the same."""
    names = [place for place, other in enumerate(told) if other.operation == one.operation]
    alike = (place for place, other in enumerate(told) if _same(one, other, relations))
    return names[0] if names else next(alike, None)


def _same(one: HeadOperation, other: HeadOperation, relations: Sequence[Relation]) -> bool:
    """Whether each satisfies the other's hits, or one does and they are of one part or of none."""
    both = [_covers(first, second, relations) for first, second in ((one, other), (other, one))]
    return all(both) or (any(both) and one.part == other.part)


def _covers(one: HeadOperation, other: HeadOperation, relations: Sequence[Relation]) -> bool:
    """Whether half of the words that `other` holds for satisfy `one`, within the k targets of its own test."""
    claim, pairs = claimed_operation(one.operation, relations), one.test.pairs
    held = [each.row for each in other.test.tested_rows if each.hit]
    if claim is None or pairs is None or not held:
        return False
    within = [replace(row, targets=row.targets[: pairs.k]) for row in held]
    return sum(_says(claim, row) for row in within) >= SAME * len(held)


def _says(claim: ClaimedOperation, row: MappingRow) -> bool:
    """Whether the claim is about the word, and holds for it."""
    if isinstance(claim, ClaimedFields | ClaimedClass) and claim.sources and core(row.token) not in claim.sources:
        return False
    return bool(claim.satisfied(row))
