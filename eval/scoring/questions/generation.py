"""Generation: pairs made from the description alone, scored on the weights.

phi of the pairs on this head is compared with phi on all other heads of the model: the score is the share of other
heads with a smaller phi (ties half), so guessing gives 0.5 whatever the operation. `agent.checks.new_pairs` says which
pairs an operation predicts; sources that the describer was shown are left out. See docs/method.md, "Testing a
description".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.checks.claims import MAX_PAIRS, claim_of
from agent.checks.new_pairs import MIN_NEW_PAIRS, pair_test, shown_sources
from agent.checks.pair_scorer import PairScorer
from agent.results.descriptions import HeadDescription
from agent.words.spelled_pairs import spelled_pairs
from eval.judges.protocol import Judge
from eval.scoring.results import Outcome, Subject
from eval.statistics.intervals import exact_share
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation
from maps_engine.results import HeadMapping


@dataclass(frozen=True, slots=True)
class PlannedPairs:
    """Pairs to score on one head, or why there are none."""

    mapping: HeadMapping
    pairs: PairSet | None
    why: str = ""


@dataclass(frozen=True)
class Generator:
    """Pairs of descriptions on the heads of one model."""

    scorer: PairScorer
    relations: Sequence[Relation]

    def plan(self, subject: Subject, description: HeadDescription, judge: Judge) -> PlannedPairs:
        """The pairs that `description` predicts: of the operation it names, else of the judge's making."""
        vocabulary = self.scorer.maps.checkpoint.vocabulary
        excluded = shown_sources(subject.mapping)
        claim = claim_of(description, self.relations)
        if claim is not None:
            pairs = claim.pairs(vocabulary, excluded=excluded, n=MAX_PAIRS)
        else:
            proposed = judge.propose_pairs(description, n=MAX_PAIRS, excluded=sorted(excluded))
            pairs = spelled_pairs(proposed.pairs, vocabulary, excluded, exact=proposed.exact).pairs
        if len(pairs.sources) < MIN_NEW_PAIRS:
            return PlannedPairs(
                subject.mapping, None, f"{len(pairs.sources)} one-token pairs; {MIN_NEW_PAIRS} are needed"
            )
        return PlannedPairs(subject.mapping, pairs)

    def score(self, plans: Sequence[PlannedPairs]) -> list[Outcome]:
        """One outcome a plan, in order; one pass over the model scores all pairs that were not scored before."""
        self.scorer.prepare(plan.pairs for plan in plans if plan.pairs is not None)
        return [self._outcome(plan) for plan in plans]

    def _outcome(self, plan: PlannedPairs) -> Outcome:
        if plan.pairs is None:
            return Outcome(None, why=plan.why)
        tested = pair_test(self.scorer.score(plan.pairs), plan.pairs, plan.mapping)
        low, high = exact_share(tested.score * tested.n_pairs, tested.n_pairs)
        parts = {
            "phi": tested.score, "phi low": low, "phi high": high,
            "mean phi of other heads": tested.others_mean, "best phi of other heads": tested.others_max,
        }  # fmt: skip
        return Outcome(tested.percentile / 100, n=tested.n_pairs, parts=parts)
