"""One head from its rows to a description: propose → try → (revise → try)* → settle.

    propose: the describer sees the shown rows, known operations alike and the intruder test, and may call tools
    try:     a third of the new pairs that the description predicts are tried; the describer is told the outcome
    revise:  it keeps, changes or withdraws; at most `max_revisions` times, and only while the trial does not support it
    settle:  the attempt with the best trial, its judging pairs chosen among those that nothing has shown it

The verdict itself is left to `agent.pipeline.flow`, which scores the judging pairs of many heads in one pass. A
describer that cannot revise (lexical) gives all that it would say, best first, and tests choose among them. Withdrawn
by the agent itself, as "unclear": what is still contradicted after the last round; and what its trial does not support
on a head whose rows cannot be told from those of other heads (`agent.checks.intruder.CHANCE_LIKE`).

A plain loop: a graph library would bring checkpoints and streams, which nothing here uses (what came of a language
model is kept by `agent.runs.workers`), and would turn the state into dictionaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.checks.choice import withdrawn
from agent.checks.claims import MAX_PAIRS, ClaimedClass, ClaimedFields, claimed_operation
from agent.checks.intruder import CHANCE_LIKE, EmbeddingJudge, intruder_test
from agent.checks.new_pairs import held_out_sources, predicted_pairs, shown_sources, without_sources
from agent.checks.trials import TOO_FEW, TRIAL_PAIRS, run_trial, split_pairs
from agent.describers.choosing import ChoosingDescriber
from agent.describers.facts import told_words
from agent.describers.protocol import RankingDescriber, RevisingDescriber, Said
from agent.llm.protocol import Message
from agent.llm.token_usage import metered
from agent.pipeline.head_tools import HeadTools
from agent.pipeline.workbench import Tell, Workbench, silent
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence, IntruderTest, Retrieved
from agent.results.outcomes import TestResult, Verdict
from agent.results.reports import Attempt, HeadReport, Trace, Trial
from agent.words.known_pairs import known_name
from agent.words.spelling import core
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import HeadMapping

NOT_TESTED: Final = "not tested yet"
_RANK: Final[dict[Verdict, int]] = {"supported": 3, "weak": 2, "not testable": 1, "contradicted": 0}


def describe_mapping(
    bench: Workbench, mapping: HeadMapping, retrieved: tuple[Retrieved, ...], *, tell: Tell = silent
) -> HeadReport:
    """The head's description with its evidence and trace, its final test still to come. Safe to call from threads.

    Raises BudgetSpent and ModelDown; whatever else goes wrong with a language model is a failed description.
    """
    tell(f"describing with {bench.describer.name}")
    describer = bench.describer
    if isinstance(describer, RevisingDescriber):
        (said, trace), usage = metered(lambda: _Revision(bench, describer, mapping, retrieved, tell).run())
        return untested(bench, mapping, retrieved, said, replace(trace, usage=usage))
    if isinstance(describer, ChoosingDescriber):
        evidence = counted_evidence(bench, mapping, retrieved)
        found, usage = metered(lambda: describer.choose(evidence))
        best, *others = found.ranked
        trace = Trace(conversation=found.conversation, usage=usage, seen=tuple(sorted(told_words(evidence))))
        report = untested(bench, mapping, retrieved, best, trace)
        return replace(report, alternatives=tuple(others))
    if isinstance(describer, RankingDescriber):
        best, *others = describer.ranked(counted_evidence(bench, mapping, retrieved))
        return replace(untested(bench, mapping, retrieved, best, Trace()), alternatives=tuple(others))
    return untested(bench, mapping, retrieved, describer.describe(Evidence.of(mapping, retrieved)), Trace())


def counted_evidence(bench: Workbench, mapping: HeadMapping, retrieved: tuple[Retrieved, ...]) -> Evidence:
    """The rows that may be seen, and what was counted of the head on words that no test uses."""
    place = mapping.layer, mapping.head
    return Evidence.of(
        mapping,
        retrieved,
        known=bench.catalogue.of_head(*place),
        classes=bench.classes.of_head(*place),
        shared=bench.classes.shared_by(*place),
        part_classes=bench.of_parts.of_head(mapping),
    )


def untested(
    bench: Workbench,
    mapping: HeadMapping,
    retrieved: tuple[Retrieved, ...],
    description: HeadDescription,
    trace: Trace,
) -> HeadReport:
    """The report of a description whose final test is still to come."""
    test = TestResult("not testable", description.operation, NOT_TESTED)
    return HeadReport(mapping, retrieved, description, test, bench.provenance(mapping), trace)


@dataclass(frozen=True)
class _Tried:
    """An attempt, and the pairs that are left to judge it; None where nothing was tried."""

    attempt: Attempt
    judging: PairSet | None = None


class _Revision:
    """The conversation with a describer about one head."""

    def __init__(
        self,
        bench: Workbench,
        describer: RevisingDescriber,
        mapping: HeadMapping,
        retrieved: tuple[Retrieved, ...],
        tell: Tell,
    ) -> None:
        self._bench, self._describer, self._mapping, self._tell = bench, describer, mapping, tell
        with bench.scorer.lock:
            intruder = intruder_test(mapping, bench.maps, EmbeddingJudge(bench.fields))
        self._evidence = replace(counted_evidence(bench, mapping, retrieved), intruder=intruder)
        self._tools = HeadTools(mapping, bench.scorer, bench.neighbours)
        self._tools.seen |= shown_sources(mapping) | told_words(self._evidence)
        self._tools.seen |= {core(s) for r in retrieved for s, _ in r.examples}
        self._conversation: list[Message] = []

    def run(self) -> tuple[HeadDescription, Trace]:
        """The description as it is settled, and how it came about."""
        said = self._hear(self._describer.propose(self._evidence, tools=self._tools.tools()))
        tried = [self._try(Attempt(said.description, None, said.decision))]
        while self._unsettled(tried):
            self._tell("revising the description")
            attempts = tuple(one.attempt for one in tried)
            said = self._hear(self._describer.revise(self._evidence, attempts, tools=self._tools.tools()))
            if said.decision == "kept":
                tried.append(replace(tried[-1], attempt=replace(tried[-1].attempt, decision="kept")))
                break
            new = Attempt(said.description, None, said.decision)
            tried.append(self._try(new) if said.decision == "changed" else _Tried(new))
            if said.decision != "changed":
                break
        return self._settle(tried)

    def _hear(self, said: Said) -> Said:
        """What was said, the name of a known operation in the catalogue's own words."""
        self._tools.note(said.conversation)
        self._conversation += said.conversation
        label, relations = said.description.operation, self._bench.relations
        claim = claimed_operation(label, relations)
        any_words = isinstance(claim, ClaimedFields | ClaimedClass) and not claim.sources  # "names to pronouns"
        if claim is not None and not any_words:
            return said
        return replace(said, description=replace(said.description, operation=known_name(label, relations)))

    def _unsettled(self, tried: Sequence[_Tried]) -> bool:
        """Whether the describer should think again, and may."""
        trial = tried[-1].attempt.trial
        revised = sum(one.attempt.decision == "changed" for one in tried)
        doubtful = trial is not None and trial.verdict in ("contradicted", "weak")
        return doubtful and revised < self._describer.max_revisions

    def _try(self, attempt: Attempt) -> _Tried:
        """New pairs of an attempt, and the trial of a part of them; the others are left to judge it."""
        if attempt.description.status != "ok":
            return _Tried(attempt)
        self._tell("trying the description on new pairs")
        vocabulary, revisions = self._bench.maps.checkpoint.vocabulary, self._describer.max_revisions
        found = predicted_pairs(
            attempt.description,
            relations=self._bench.relations,
            vocabulary=vocabulary,
            excluded=frozenset(self._tools.seen),
            proposer=self._describer,
            n=MAX_PAIRS + (TRIAL_PAIRS if revisions else 0),
        )
        self._conversation += found.said.conversation if found.said else ()
        if found.problem:
            return _Tried(replace(attempt, trial=Trial("not testable", found.problem)), found.pairs)
        if not revisions:
            return _Tried(attempt, found.pairs)
        held_out = held_out_sources(self._mapping)
        kept_back = [i for i in found.pairs.sources if core(vocabulary.text(i)) in held_out]
        tried, judging = split_pairs(found.pairs, kept_back)
        trial = run_trial(tried, self._mapping, self._bench.scorer)
        if trial.reason == TOO_FEW:
            trial = replace(trial, reason=f"{TOO_FEW}{found.dropped}")
        self._tools.seen |= {core(vocabulary.text(i)) for i in tried.sources}
        return _Tried(replace(attempt, trial=trial), judging)

    def _settle(self, tried: Sequence[_Tried]) -> tuple[HeadDescription, Trace]:
        attempts = tuple(one.attempt for one in tried)
        best = tried[best_attempt(attempts)]
        seen, judging = tuple(sorted(self._tools.seen)), best.judging
        if judging is not None:
            judging = without_sources(judging, seen, self._bench.maps.checkpoint.vocabulary)
        trace = Trace(attempts, tuple(self._conversation), self._evidence.intruder, seen, judging)
        return settled(best.attempt, self._evidence.intruder), trace


def best_attempt(attempts: Sequence[Attempt]) -> int:
    """The place of the attempt to record: a withdrawal or what was kept; else the best trial, the later of equals."""
    last = len(attempts) - 1
    if attempts[last].decision in ("withdrawn", "kept"):
        return last
    named = [i for i, one in enumerate(attempts) if one.description.status == "ok"]
    return max(named, key=lambda i: (_rank(attempts[i].trial), i)) if named else last


def settled(attempt: Attempt, intruder: IntruderTest | None) -> HeadDescription:
    """The description as it is recorded: withdrawn where trial and intruder test speak against it."""
    said, trial = attempt.description, attempt.trial
    if said.status != "ok" or trial is None or trial.verdict == "supported":
        return said
    if trial.verdict == "contradicted":
        return withdrawn(said, "its trial pairs contradict it")
    too_few = trial.reason.startswith(TOO_FEW)  # where none came at all, the reason is another and says nothing
    if (trial.verdict == "weak" or too_few) and intruder is not None and intruder.share <= CHANCE_LIKE:
        told = f"an intruder was found in {intruder.found} of {intruder.n} trials"
        return withdrawn(said, f"no trial supports it, and the rows are like those of any head ({told})")
    return said


def _rank(trial: Trial | None) -> int:
    return _RANK[trial.verdict] if trial else 1
