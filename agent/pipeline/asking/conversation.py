"""The conversation with a language model about one head: propose → try → (revise → try)* → settle, then its parts.

    propose: the describer sees the shown rows, known operations alike and the intruder test, and may call tools
    try:     a third of the new pairs that the description predicts are tried; the describer is told the outcome
    revise:  it keeps, changes or withdraws; at most `max_revisions` times, and only while the trial does not support it
    settle:  the attempt with the best trial, its judging pairs chosen among those that nothing has shown it
    parts:   it names the head's largest parts one by one, or says that two are one; each gets judging pairs of its own

Withdrawn by the agent itself, as "unclear": what is still contradicted after the last round; and what its trial does
not support on a head whose rows cannot be told from those of other heads (`agent.checks.intruder.CHANCE_LIKE`).

A plain loop: a graph library would bring checkpoints and streams, which nothing here uses (what came of a language
model is kept by `agent.runs.workers`), and would turn the state into dictionaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.checks.choice import withdrawn
from agent.checks.claims import (
    MAX_PAIRS,
    ClaimedClass,
    ClaimedFields,
    ClaimedRelation,
    claim_of,
    claimed_operation,
)
from agent.checks.intruder import CHANCE_LIKE, EmbeddingJudge, intruder_test
from agent.checks.new_pairs import (
    held_out_sources,
    percentile_needed,
    predicted_pairs,
    shown_sources,
    without_sources,
)
from agent.checks.trials import TOO_FEW, TRIAL_PAIRS, run_trial, split_pairs
from agent.describers.asking.facts import told_words
from agent.describers.asking.part_names import shown_words
from agent.describers.protocol import PartNamer, RevisingDescriber, Said
from agent.llm.protocol import Message
from agent.pipeline.asking.head_tools import HeadTools
from agent.pipeline.workbench import Tell, Workbench
from agent.results.descriptions import HeadDescription
from agent.results.evidence import IntruderTest, Retrieved
from agent.results.outcomes import Verdict
from agent.results.reports import Attempt, NamedPart, Trace, Trial
from agent.words.known_pairs import known_name, label_of
from agent.words.spelling import core
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation
from maps_engine.results import HeadMapping

_RANK: Final[dict[Verdict, int]] = {"supported": 3, "weak": 2, "not testable": 1, "contradicted": 0}


@dataclass(frozen=True)
class _Tried:
    """An attempt, and the pairs that are left to judge it; None where nothing was tried."""

    attempt: Attempt
    judging: PairSet | None = None


class Conversation:
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
        self._evidence = replace(bench.evidence(mapping, retrieved), intruder=intruder)
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
        said_of_head, trace = self._settle(tried)
        named = self._named_parts() if said_of_head.status != "failed" else ()
        return said_of_head, replace(trace, named_parts=named, conversation=tuple(self._conversation))

    def _hear(self, said: Said) -> Said:
        """What was said, the name of a known operation in the catalogue's own words."""
        self._tools.note(said.conversation)
        self._conversation += said.conversation
        return replace(said, description=in_known_words(said.description, self._bench.relations))

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
        needed = percentile_needed(claim_of(attempt.description, self._bench.relations))
        trial = run_trial(tried, self._mapping, self._bench.scorer, percentile=needed)
        if trial.reason == TOO_FEW:
            trial = replace(trial, reason=f"{TOO_FEW}{found.dropped}")
        self._tools.seen |= {core(vocabulary.text(i)) for i in tried.sources}
        return _Tried(replace(attempt, trial=trial), judging)

    def _named_parts(self) -> tuple[NamedPart, ...]:
        """What the describer says of the head's parts, each with pairs that nothing has shown it."""
        describer = self._describer
        if not isinstance(describer, PartNamer) or not describer.most_parts or not self._evidence.parts:
            return ()
        self._tell("naming the parts of the head")
        said = describer.name_parts(self._evidence)
        self._conversation += said.conversation
        relations = self._bench.relations
        return tuple(self._judged(describer, in_known_words(one, relations)) for one in said.descriptions)

    def _judged(self, describer: PartNamer, said: HeadDescription) -> NamedPart:
        shown = shown_words(self._evidence, describer.most_parts)
        found = predicted_pairs(
            said,
            relations=self._bench.relations,
            vocabulary=self._bench.maps.checkpoint.vocabulary,
            excluded=frozenset(self._tools.seen) | shown,
            proposer=describer,
        )
        self._conversation += found.said.conversation if found.said else ()
        words = tuple(row.token_id for row in self._mapping.parts[said.part or 0].rows)
        return NamedPart(said, found.pairs, words)

    def _settle(self, tried: Sequence[_Tried]) -> tuple[HeadDescription, Trace]:
        attempts = tuple(one.attempt for one in tried)
        best = tried[best_attempt(attempts)]
        seen, judging = tuple(sorted(self._tools.seen)), best.judging
        if judging is not None:
            judging = without_sources(judging, seen, self._bench.maps.checkpoint.vocabulary)
        trace = Trace(attempts, tuple(self._conversation), self._evidence.intruder, seen, judging)
        return settled(best.attempt, self._evidence.intruder), trace


def in_known_words(said: HeadDescription, relations: Sequence[Relation]) -> HeadDescription:
    """The description, the name of a known operation in the catalogue's own words."""
    claim = claimed_operation(said.operation, relations)
    any_words = isinstance(claim, ClaimedFields | ClaimedClass) and not claim.sources  # "names to pronouns"
    if isinstance(claim, ClaimedRelation):
        return replace(said, operation=label_of(claim.relation.name))
    if claim is not None and not any_words:
        return said
    return replace(said, operation=known_name(said.operation, relations))


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
