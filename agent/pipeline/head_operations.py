"""All that a head does: every description that its test supports, each thing once, with the part that it is about.

The description that is recorded comes first. Others follow by the share of the head's part that their words belong to.
Of those that say the same one is told, the recorded one or the one with the clearest test: two say the same where half
of the tested words of each satisfy the other, or of one of them where both are about the same part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agent.checks.choice import Tested, controlled
from agent.checks.claims import ClaimedClass, ClaimedFields, ClaimedOperation, claimed_operation
from agent.results import HeadDescription, HeadOperation, HeadReport, TestedRow, TestResult
from agent.words.spelling import core
from maps_engine.relations.catalogue import Relation
from maps_engine.results import HeadMapping, MappingRow

SAME: Final = 0.5  # of the tested words of one description that satisfy another


def supported(tested: Sequence[Tested]) -> tuple[HeadOperation, ...]:
    """The descriptions that their tests support, in their order."""
    return tuple(_operation(said, test) for said, test in tested if test.verdict == "supported" and said.status == "ok")


def _operation(said: HeadDescription, test: TestResult) -> HeadOperation:
    kind = said.claims[0].kind if said.claims else "said"
    return HeadOperation(said.operation, said.observed_pattern, kind, test, said.part)


def with_operations(report: HeadReport, relations: Sequence[Relation]) -> HeadReport:
    """The report with each of its operations once, in order; their tested rows have been read."""
    said, test = report.description, report.test
    recorded = [_operation(said, test)] if said.status == "ok" else []
    others = sorted((one for one in report.operations if one.operation != said.operation), key=_evidence)
    found: list[HeadOperation] = []
    for one in (_placed(each, report.mapping) for each in (*recorded, *others)):
        if not any(_same(one, other, relations) for other in found):
            found.append(one)
    n = len(recorded)
    return replace(report, operations=(*found[:n], *sorted(found[n:], key=lambda one: -(one.share or 0.0))))


def _evidence(one: HeadOperation) -> tuple[bool, float]:
    """Of two that say the same the one with a control is told, then the one that is furthest above it."""
    pairs = one.test.pairs
    return not controlled(one.test), (pairs.shuffled or 0.0) - pairs.score if pairs else 0.0


def _placed(one: HeadOperation, mapping: HeadMapping) -> HeadOperation:
    """With its part, where more than half of the words that it holds for belong to one, and that part's share."""
    part = one.part
    if part is None:
        held = [row.row.token_id for row in one.test.tested_rows if row.hit]
        counts = Counter(place for word in held for place, part in enumerate(mapping.parts) if word in part.members)
        place, n = max(counts.items(), key=lambda item: item[1], default=(0, 0))
        part = place if 2 * n > len(held) else None
    return replace(one, part=part, share=None if part is None else mapping.parts[part].share)


def _same(one: HeadOperation, other: HeadOperation, relations: Sequence[Relation]) -> bool:
    """Whether each satisfies what the other was tested on, or of the same part either; free words as they stand."""
    claims = [claimed_operation(each.operation, relations) for each in (one, other)]
    both = ((claims[0], other.test.tested_rows), (claims[1], one.test.tested_rows))
    held = [claim is not None and _holds(claim, rows) for claim, rows in both]
    return one.operation == other.operation or all(held) or (any(held) and one.part == other.part)


def _holds(claim: ClaimedOperation, tested: Sequence[TestedRow]) -> bool:
    held = [one.row for one in tested if one.hit]
    return bool(held) and sum(_says(claim, row) for row in held) >= SAME * len(held)


def _says(claim: ClaimedOperation, row: MappingRow) -> bool:
    """Whether the claim is about the word, and holds for it."""
    if isinstance(claim, ClaimedFields | ClaimedClass) and claim.sources and core(row.token) not in claim.sources:
        return False
    return bool(claim.satisfied(row))
