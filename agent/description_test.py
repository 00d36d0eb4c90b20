"""Is a description true of the head beyond the rows it was made from? Our step beyond the paper.

Test of pairs. From the description alone, new (source, target) pairs are made whose sources the describer never saw.
Their relation score phi (METHOD, question a) on this head is held against the same score on all other heads of the
model: a description that fits this head no better than a random head says nothing about it.
Test of rows. The share of held-out salient rows (ranks after those shown) that satisfy the claim, beside the share
of shown rows: a claim read into noise falls apart there.
"Not testable", with the reason, is a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from agent.claimed_operations import MAX_PAIRS, ClaimedOperation, claimed_operation, single_token
from agent.describers.spelling import core
from agent.results import HeadDescription, PairTest, RowTest, TestResult, Verdict
from maps_engine.engine import MapsEngine
from maps_engine.model import Vocabulary
from maps_engine.relation_catalogue import Relation
from maps_engine.relations import PairSet
from maps_engine.results import HeadMapping, MappingRow

MIN_PAIRS: Final = 10
IMPLEMENTS: Final = 0.15  # tau of METHOD: from here on a head is said to implement a relation
HIGH: Final = 90.0  # percentile among the other heads that supports a claim
FAIR: Final = 75.0
MIN_ROWS: Final = 5


@runtime_checkable
class PairProposer(Protocol):
    """A describer that can think of pairs for its own description (a language model)."""

    def propose_pairs(
        self, description: HeadDescription, *, n: int, excluded: Sequence[str]
    ) -> Sequence[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test before its pairs are scored, so that those of many heads can be scored in one pass."""

    description: HeadDescription
    mapping: HeadMapping
    pairs: PairSet | None = None
    rows: RowTest | None = None
    untestable: str = ""  # why not, where `pairs` is None


def run_description_test(
    description: HeadDescription,
    mapping: HeadMapping,
    *,
    engine: MapsEngine,
    relations: Sequence[Relation],
    proposer: PairProposer | None = None,
) -> TestResult:
    """Both tests of an `ok` description; raises nothing for a claim that cannot be tested."""
    vocabulary = engine.checkpoint.vocabulary
    planned = plan_test(description, mapping, vocabulary=vocabulary, relations=relations, proposer=proposer)
    return finish_test(planned, engine)


def plan_test(
    description: HeadDescription,
    mapping: HeadMapping,
    *,
    vocabulary: Vocabulary,
    relations: Sequence[Relation],
    proposer: PairProposer | None = None,
) -> PlannedTest:
    """Everything but the scores: the new pairs, the rows counted, or why there is nothing to test."""
    if description.status != "ok":
        return PlannedTest(description, mapping, untestable=f"the description is {description.status}")
    excluded = frozenset(core(row.token) for row in mapping.rows)
    claim = claimed_operation(description.operation, relations)
    if claim is not None:
        pairs = claim.pairs(vocabulary, excluded=excluded, n=MAX_PAIRS)
    elif proposer is not None:
        pairs = _proposed(description, vocabulary, excluded, proposer)
    else:
        return PlannedTest(description, mapping, untestable="no pairs can be made from this label alone")
    rows = count_rows(claim, mapping) if claim is not None else None
    if len(pairs.sources) < MIN_PAIRS:
        reason = f"only {len(pairs.sources)} new one-token pairs; at least {MIN_PAIRS} are needed"
        return PlannedTest(description, mapping, rows=rows, untestable=reason)
    return PlannedTest(description, mapping, pairs, rows)


def finish_test(planned: PlannedTest, engine: MapsEngine) -> TestResult:
    """The verdict, with the pairs scored on every head of the model."""
    operation = planned.description.operation
    if planned.pairs is None:
        return TestResult("not testable", operation, planned.untestable, rows=planned.rows)
    tested = score_new_pairs(planned.pairs, planned.mapping, engine)
    return TestResult(verdict_of(tested, planned.rows), operation, pairs=tested, rows=planned.rows)


def score_new_pairs(pairs: PairSet, mapping: HeadMapping, engine: MapsEngine) -> PairTest:
    """phi of the pairs on this head and on all others, read through the head's own source representation."""
    scores = engine.score_pairs([pairs], source=mapping.source)[0].score
    own = float(scores[mapping.layer, mapping.head])
    others = scores.flatten().tolist()
    del others[mapping.layer * scores.shape[1] + mapping.head]
    below = sum(score < own for score in others) + 0.5 * sum(score == own for score in others)
    return PairTest(
        n_pairs=len(pairs.sources),
        k=pairs.k,
        score=own,
        percentile=100.0 * below / len(others) if others else 50.0,
        others_mean=sum(others) / len(others) if others else 0.0,
        others_max=max(others, default=0.0),
        n_others=len(others),
    )


def count_rows(claim: ClaimedOperation, mapping: HeadMapping) -> RowTest:
    """Rows that satisfy the claim, of those it says something about."""
    shown, held_out = _satisfied(claim, mapping.rows), _satisfied(claim, mapping.held_out_rows)
    return RowTest(sum(shown), len(shown), sum(held_out), len(held_out))


def verdict_of(pairs: PairTest, rows: RowTest | None) -> Verdict:
    """Supported: it implements the pairs and stands out among heads. Rows that fall apart weaken it."""
    if pairs.score >= IMPLEMENTS and pairs.percentile >= HIGH:
        return "weak" if rows is not None and _falls_apart(rows) else "supported"
    if pairs.score > 0 and pairs.percentile >= FAIR:
        return "weak"
    return "contradicted"


def _falls_apart(rows: RowTest) -> bool:
    """Whether held-out rows fit less than a third as often as shown ones."""
    if rows.held_out_n < MIN_ROWS or not rows.shown_n:
        return False
    return rows.held_out_k / rows.held_out_n < rows.shown_k / rows.shown_n / 3


def _satisfied(claim: ClaimedOperation, rows: Sequence[MappingRow]) -> list[bool]:
    return [fits for row in rows if (fits := claim.satisfied(row)) is not None]


def _proposed(
    description: HeadDescription, vocabulary: Vocabulary, excluded: frozenset[str], proposer: PairProposer
) -> PairSet:
    """The proposer's pairs as ids; sources already shown and words of several tokens are dropped."""
    made: dict[int, tuple[int, ...]] = {}
    for source, target in proposer.propose_pairs(description, n=MAX_PAIRS, excluded=sorted(excluded)):
        s, t = single_token(vocabulary, f" {source.strip()}"), single_token(vocabulary, f" {target.strip()}")
        if s is not None and t is not None and core(source) not in excluded:
            made[s] = (*made.get(s, ()), t)
    return PairSet(tuple(made), tuple(made.values()), 10)
