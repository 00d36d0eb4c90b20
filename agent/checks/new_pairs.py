"""Is a description true of the head beyond the rows it was made from? Our step beyond the paper.

Test of pairs. From the description alone, new (source, target) pairs are made whose sources the describer never saw.
Their relation score phi (docs/method.md, "Operation to heads: the relation score") on this head is held against the
same score on all other heads of the model, since a description that fits this head no better than a random head says
nothing about it, and against that of the same sources with each other's targets (`agent.checks.controls`).
Test of rows. The share of held-out salient rows (ranks after those shown) that satisfy the claim, beside the share
of shown rows: a claim read into noise falls apart there.
"Not testable", with the reason, is a result. Limits and verdicts: docs/method.md, "Testing a description".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from agent.checks.claims import MAX_PAIRS, ClaimedClass, ClaimedFields, ClaimedOperation, claim_of
from agent.checks.controls import ABOVE_SHUFFLED, FEWEST, mixed_pairs
from agent.checks.pair_scorer import PairScorer
from agent.describers.protocol import PairProposer, Proposed
from agent.results.descriptions import HeadDescription
from agent.results.outcomes import PairTest, RowTest, TestedRow, TestResult, Verdict
from agent.results.reports import HeadReport
from agent.words.spelled_pairs import spelled_pairs
from agent.words.spelling import core
from maps_engine.model import Vocabulary
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation
from maps_engine.relations.thresholds import DEFAULT_K, TAU
from maps_engine.results import HeadMapping, MappingRow

MIN_NEW_PAIRS: Final = 10
NO_PAIRS: Final = PairSet((), (), DEFAULT_K)
HIGH: Final = 95.0  # percentile among the other heads that supports a claim
HIGH_OF_CLASSES: Final = 97.0  # that supports a claim of classes of words, which null heads pass more often
FAIR: Final = 75.0
MIN_ROWS: Final = 5
TESTED_ROWS: Final = 12  # new words of which the rows are shown
MOST_LISTED: Final = 3
MOST_SPELLED: Final = 8  # targets of a pair, for them to be listed


@dataclass(frozen=True)
class PlannedTest:
    """A test before its pairs are scored, so that those of many heads can be scored in one pass."""

    description: HeadDescription
    mapping: HeadMapping
    pairs: PairSet | None = None
    rows: RowTest | None = None
    untestable: str = ""  # why not, where `pairs` is None
    percentile: float = HIGH  # among the other heads, that supports it

    @cached_property
    def sets(self) -> tuple[PairSet, ...]:
        """All that is scored: the pairs, and the same sources with each other's targets."""
        return () if self.pairs is None else (self.pairs, mixed_pairs(self.pairs))


@dataclass(frozen=True, slots=True)
class Predicted:
    """New pairs that a description predicts; `said` is what its describer was asked for them, if it was."""

    pairs: PairSet
    said: Proposed | None = None
    problem: str = ""  # why there are none
    dropped: str = ""  # how many that were proposed fell out, and why


def plan_test(
    description: HeadDescription,
    mapping: HeadMapping,
    *,
    vocabulary: Vocabulary,
    relations: Sequence[Relation],
    proposer: PairProposer | None = None,
    seen: Collection[str] = (),
    judging: PairSet | None = None,
) -> PlannedTest:
    """Everything that a test needs before its pairs are scored: new pairs, counted rows, or why it cannot be done.

    `seen` are sources (casefolded) that the describer knows besides the shown rows; `judging` are pairs chosen before.
    """
    if description.status != "ok":
        return PlannedTest(description, mapping, untestable=f"the description is {description.status}")
    claim = claim_of(description, relations)
    rows = count_rows(claim, mapping) if claim is not None else None
    excluded, dropped = shown_sources(mapping) | frozenset(seen), ""
    if judging is None:
        found = predicted_pairs(
            description, relations=relations, vocabulary=vocabulary, excluded=excluded, proposer=proposer
        )
        if found.problem:
            return PlannedTest(description, mapping, rows=rows, untestable=found.problem)
        judging, dropped = found.pairs, found.dropped
    pairs = without_sources(judging, excluded, vocabulary)
    if len(pairs.sources) < MIN_NEW_PAIRS:
        reason = f"only {len(pairs.sources)} new one-token pairs; at least {MIN_NEW_PAIRS} are needed{dropped}"
        return PlannedTest(description, mapping, rows=rows, untestable=reason)
    return PlannedTest(description, mapping, pairs, rows, percentile=percentile_needed(claim))


def percentile_needed(claim: ClaimedOperation | None) -> float:
    """The percentile among the other heads that supports a claim, or free text."""
    return HIGH_OF_CLASSES if isinstance(claim, ClaimedFields | ClaimedClass) else HIGH


def shown_sources(mapping: HeadMapping) -> frozenset[str]:
    """Casefolded texts of the tokens that a describer is shown."""
    return frozenset(core(row.token) for row in mapping.rows)


def held_out_sources(mapping: HeadMapping) -> frozenset[str]:
    """Casefolded texts of the tokens whose rows no describer may see."""
    return frozenset(core(row.token) for row in mapping.held_out_rows)


def without_sources(pairs: PairSet, excluded: Collection[str], vocabulary: Vocabulary) -> PairSet:
    """The pairs whose sources are not among `excluded` (casefolded texts)."""
    left = [
        (s, t) for s, t in zip(pairs.sources, pairs.targets, strict=True) if core(vocabulary.text(s)) not in excluded
    ]
    return PairSet(tuple(s for s, _ in left), tuple(t for _, t in left), pairs.k, pairs.others)


def predicted_pairs(
    description: HeadDescription,
    *,
    relations: Sequence[Relation],
    vocabulary: Vocabulary,
    excluded: frozenset[str],
    proposer: PairProposer | None,
    n: int = MAX_PAIRS,
) -> Predicted:
    """Up to `n` new pairs: from the operation that the label names, else from its describer."""
    claim = claim_of(description, relations)
    if claim is not None:
        return Predicted(claim.pairs(vocabulary, excluded=excluded, n=n))
    if proposer is None:
        return Predicted(NO_PAIRS, problem="no pairs can be made from this label alone")
    said = proposer.propose_pairs(description, n=n, excluded=sorted(excluded))
    spelled = spelled_pairs(said.pairs, vocabulary, excluded, exact=said.exact)
    return Predicted(spelled.pairs, said, said.problem, spelled.told_dropped)


def finish_test(planned: PlannedTest, scorer: PairScorer) -> TestResult:
    """The verdict, with the pairs scored on every head of the model."""
    operation = planned.description.operation
    if planned.pairs is None:
        return TestResult("not testable", operation, planned.untestable, rows=planned.rows)
    tested = score_new_pairs(planned.pairs, planned.mapping, scorer)
    words = _tested_words(planned.pairs, planned.mapping, scorer)
    verdict = verdict_of(tested, planned.rows, percentile=planned.percentile)
    return TestResult(verdict, operation, pairs=tested, rows=planned.rows, tested_rows=words)


def _tested_words(pairs: PairSet, mapping: HeadMapping, scorer: PairScorer) -> tuple[TestedRow, ...]:
    """The first pairs that hit on the head and the first that missed, in their proportion and in the test's order.

    A test with both shows one of each at least. Targets are read by `with_tested_rows`, for many heads at once.
    """
    text = scorer.maps.checkpoint.vocabulary.text
    hits = scorer.hits(pairs)[:, mapping.layer, mapping.head].tolist()
    held, missed = ([place for place, hit in enumerate(hits) if hit is wanted] for wanted in (True, False))
    shown = min(TESTED_ROWS, len(hits))
    most = shown - min(1, len(missed))
    n_held = min(max(round(shown * len(held) / len(hits)), min(1, len(held))), most)
    return tuple(
        TestedRow(
            MappingRow(text(pairs.sources[i]), pairs.sources[i], 0.0, ()), _accepted(pairs.targets[i], text), hits[i]
        )
        for i in sorted(held[:n_held] + missed[: shown - n_held])
    )


def with_tested_rows(reports: Sequence[HeadReport], scorer: PairScorer) -> list[HeadReport]:
    """The reports with what their heads map the tested words to, read in one pass over the model."""
    tests = [(report.test, *(one.test for one in report.operations)) for report in reports]
    words = [sorted({one.row.token_id for test in own for one in test.tested_rows}) for own in tests]
    places = [(report.mapping.layer, report.mapping.head) for report in reports]
    read = scorer.rows_of_heads(dict(zip(places, words, strict=True)))
    found = []
    for report, place in zip(reports, places, strict=True):
        rows = {row.token_id: row for row in read[place]}
        operations = tuple(replace(one, test=_with_rows(one.test, rows)) for one in report.operations)
        found.append(replace(report, test=_with_rows(report.test, rows), operations=operations))
    return found


def _with_rows(test: TestResult, rows: Mapping[int, MappingRow]) -> TestResult:
    return replace(test, tested_rows=tuple(replace(one, row=rows[one.row.token_id]) for one in test.tested_rows))


def _accepted(targets: Sequence[int], text: Callable[[int], str]) -> str:
    """The accepted targets of a pair, since any of them is a hit; nothing where they are many."""
    if len(targets) > MOST_SPELLED:
        return ""
    if len(targets) == 1:
        return text(targets[0])
    words = list({core(text(t)): text(t).strip() for t in reversed(targets)}.values())[::-1]  # each in one spelling
    return " or ".join([*words[:MOST_LISTED], *(["…"] if len(words) > MOST_LISTED else [])])


def score_new_pairs(pairs: PairSet, mapping: HeadMapping, scorer: PairScorer) -> PairTest:
    """phi of the pairs on this head and on all others, and of the same sources with each other's targets."""
    mixed = mixed_pairs(pairs)
    null = scorer.score(mixed) if len(mixed.sources) >= FEWEST else None
    return pair_test(scorer.score(pairs), pairs, mapping, null)


def pair_test(scores: Tensor, pairs: PairSet, mapping: HeadMapping, null: Tensor | None = None) -> PairTest:
    """This head's score among those of all heads; `scores` and those of mixed pairs, `null`, are (L, H)."""
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
        shuffled=None if null is None else float(null[mapping.layer, mapping.head]),
    )


def percentiles(scores: Tensor) -> Tensor:
    """Of every head among the others, as `pair_test` has it: the share with a smaller score, ties half, 0 … 100."""
    flat = scores.flatten()
    ordered = flat.sort().values
    below = torch.searchsorted(ordered, flat)
    ties = torch.searchsorted(ordered, flat, right=True) - below - 1
    others = len(flat) - 1
    found = 100.0 * (below + 0.5 * ties.double()) / others if others else torch.full_like(flat, 50.0)
    return found.view_as(scores)


def count_rows(claim: ClaimedOperation, mapping: HeadMapping) -> RowTest:
    """Rows that satisfy the claim, of those it says something about."""
    both = mapping.evidence(mapping.rows), mapping.evidence(mapping.held_out_rows)
    shown, held_out = (_satisfied(claim, rows) for rows in both)
    return RowTest(sum(shown), len(shown), sum(held_out), len(held_out))


def verdict_of(pairs: PairTest, rows: RowTest | None, *, percentile: float = HIGH) -> Verdict:
    """What the scores say: "supported", "weak" or "contradicted".

    Supported: phi is at least tau, its percentile among the other heads at least `percentile`, and it is at least
    ABOVE_SHUFFLED above that of the same sources with each other's targets, unless held-out rows fit far less often
    than shown ones, which makes it weak. Weak: any hit and a percentile of at least FAIR.
    """
    owed = pairs.shuffled is None or pairs.score - pairs.shuffled >= ABOVE_SHUFFLED
    if owed and pairs.score >= TAU and pairs.percentile >= percentile:
        return "weak" if rows is not None and _falls_apart(rows) else "supported"
    if pairs.score > 0 and pairs.percentile >= FAIR:
        return "weak"
    return "contradicted"


def _falls_apart(rows: RowTest) -> bool:
    """Whether held-out rows fit less than a third as often as shown ones; never for fewer than MIN_ROWS of them."""
    if rows.held_out_n < MIN_ROWS or not rows.shown_n:
        return False
    return rows.held_out_k / rows.held_out_n < rows.shown_k / rows.shown_n / 3


def _satisfied(claim: ClaimedOperation, rows: Sequence[MappingRow]) -> list[bool]:
    return [fits for row in rows if (fits := claim.satisfied(row)) is not None]
