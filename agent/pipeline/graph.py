"""The agent as a LangGraph: extract → retrieve → propose → test → (revise → test)* → record.

    propose: the describer sees the shown rows, known operations alike and the intruder test, and may call tools
    test:    a third of the new pairs that the description predicts are tried; the describer is told the outcome
    revise:  it keeps, changes or withdraws; at most `max_revisions` times, and only while the trial does not support it
    record:  the attempt with the best trial, its judging pairs chosen among those that nothing has shown it

The verdict itself is left to the caller, who scores the judging pairs of many heads in one pass. A describer that
cannot revise (lexical) passes through with its one description. Withdrawn by the agent itself, as "unclear": what is
still contradicted after the last round; and what its trial does not support on a head whose rows nobody can tell from
those of other heads (`agent.checks.intruder.CHANCE_LIKE`).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, TypedDict

from agent.checks.claims import MAX_PAIRS
from agent.checks.intruder import CHANCE_LIKE
from agent.checks.new_pairs import held_out_sources, predicted_pairs, shown_sources, without_sources
from agent.checks.trials import TOO_FEW, TRIAL_PAIRS, run_trial, split_pairs
from agent.describers.protocol import RevisingDescriber, Said
from agent.llm.protocol import Message
from agent.pipeline.head_tools import HeadTools
from agent.results import Attempt, Evidence, HeadDescription, IntruderTest, Retrieved, Trace, Trial, Verdict
from agent.words.spelling import core
from maps_engine.ov.pair_scores import PairSet
from maps_engine.results import HeadMapping

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

    from agent.pipeline.session import HeadSession

_RANK: Final[dict[Verdict, int]] = {"supported": 3, "weak": 2, "not testable": 1, "contradicted": 0}
_STEPS: Final = 8  # of one pass through the graph without revisions; LangGraph wants a bound


class HeadState(TypedDict, total=False):
    """What is known of one head while the graph runs."""

    layer: int
    head: int
    mapping: HeadMapping
    retrieved: tuple[Retrieved, ...]
    evidence: Evidence
    tools: HeadTools | None
    attempts: tuple[Attempt, ...]
    judging: dict[int, PairSet]  # of each attempt that was tried, by its place
    conversation: Annotated[tuple[Message, ...], operator.add]
    description: HeadDescription
    trace: Trace


@dataclass(frozen=True)
class Finding:
    """A head described, its final test still to come."""

    mapping: HeadMapping
    retrieved: tuple[Retrieved, ...]
    description: HeadDescription
    trace: Trace


@dataclass
class HeadAgent:
    """The graph over the steps of a session; `run` is safe to call from several threads."""

    session: HeadSession
    _graph: Any = field(default=None, init=False, repr=False)

    def run(
        self,
        layer: int,
        head: int,
        *,
        mapping: HeadMapping | None = None,
        retrieved: tuple[Retrieved, ...] | None = None,
    ) -> Finding:
        """Describe one head; `mapping` and `retrieved` spare their steps. Raises HeadscribeError."""
        given: HeadState = {"layer": layer, "head": head}
        if mapping is not None:
            given["mapping"] = mapping
        if retrieved is not None:
            given["retrieved"] = retrieved
        limit = _STEPS + 2 * self._revisions
        state = self.graph.invoke(given, {"recursion_limit": limit})
        return Finding(state["mapping"], state["retrieved"], state["description"], state["trace"])

    @cached_property
    def graph(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        """Compiled once."""
        from langgraph.graph import END, START, StateGraph

        built = StateGraph(HeadState)
        for name in ("extract", "retrieve", "propose", "test", "revise", "record"):
            built.add_node(name, getattr(self, f"_{name}"))
        built.add_edge(START, "extract")
        built.add_edge("extract", "retrieve")
        built.add_edge("retrieve", "propose")
        built.add_edge("propose", "test")
        built.add_conditional_edges("test", self._after_test, ["revise", "record"])
        built.add_conditional_edges("revise", self._after_revision, ["test", "record"])
        built.add_edge("record", END)
        return built.compile()

    @property
    def _reviser(self) -> RevisingDescriber | None:
        describer = self.session.describer
        return describer if isinstance(describer, RevisingDescriber) else None

    @property
    def _revisions(self) -> int:
        return self._reviser.max_revisions if self._reviser else 0

    def _extract(self, state: HeadState) -> HeadState:
        return {} if "mapping" in state else {"mapping": self.session.extract(state["layer"], state["head"])}

    def _retrieve(self, state: HeadState) -> HeadState:
        if "retrieved" in state:
            return {}
        with self.session.store() as store:
            return {"retrieved": self.session.retrieve(state["mapping"], store)}

    def _propose(self, state: HeadState) -> HeadState:
        mapping, reviser = state["mapping"], self._reviser
        if reviser is None:
            evidence = Evidence.of(mapping, state["retrieved"])
            return _first(Said(self.session.propose(mapping, state["retrieved"])), evidence, None)
        evidence = Evidence.of(mapping, state["retrieved"], self.session.intruder(mapping))
        tools = self.session.tools(mapping)
        tools.seen |= shown_sources(mapping) | {core(s) for r in state["retrieved"] for s, _ in r.examples}
        self.session.progress(f"describing with {self.session.describer.name}")
        said = reviser.propose(evidence, tools=tools.tools())
        tools.note(said.conversation)
        return _first(said, evidence, tools)

    def _test(self, state: HeadState) -> HeadState:
        """New pairs of the last attempt, and the trial of a part of them."""
        tools, attempts = state["tools"], state["attempts"]
        last = attempts[-1]
        if tools is None or last.description.status != "ok":
            return {}
        self.session.progress("trying the description on new pairs")
        vocabulary = self.session.engine.checkpoint.vocabulary
        found = predicted_pairs(
            last.description,
            relations=self.session.relations,
            vocabulary=vocabulary,
            excluded=frozenset(tools.seen),
            proposer=self._reviser,
            n=MAX_PAIRS + (TRIAL_PAIRS if self._revisions else 0),
        )
        trial, judging = None, found.pairs
        if found.problem:
            trial = Trial("not testable", found.problem)
        elif self._revisions:
            held_out = held_out_sources(state["mapping"])
            kept_back = [i for i in found.pairs.sources if core(vocabulary.text(i)) in held_out]
            tried, judging = split_pairs(found.pairs, kept_back)
            trial = run_trial(tried, state["mapping"], self.session.scorer)
            tools.seen |= {core(vocabulary.text(i)) for i in tried.sources}
        return {
            "attempts": (*attempts[:-1], replace(last, trial=trial)),
            "judging": {**state.get("judging", {}), len(attempts) - 1: judging},
            "conversation": found.said.conversation if found.said else (),
        }

    def _after_test(self, state: HeadState) -> str:
        trial = state["attempts"][-1].trial
        done = sum(attempt.decision == "changed" for attempt in state["attempts"])
        unsettled = trial is not None and trial.verdict in ("contradicted", "weak")
        return "revise" if unsettled and done < self._revisions else "record"

    def _revise(self, state: HeadState) -> HeadState:
        tools, attempts = state["tools"], state["attempts"]
        assert tools is not None
        assert self._reviser is not None
        self.session.progress("revising the description")
        said = self._reviser.revise(state["evidence"], attempts, tools=tools.tools())
        tools.note(said.conversation)
        if said.decision == "kept":
            new = replace(attempts[-1], decision="kept")
            judging = {len(attempts): state["judging"][len(attempts) - 1]}
        else:
            new, judging = Attempt(said.description, None, said.decision), {}
        return {
            "attempts": (*attempts, new),
            "judging": state["judging"] | judging,
            "conversation": said.conversation,
        }

    def _after_revision(self, state: HeadState) -> str:
        return "test" if state["attempts"][-1].decision == "changed" else "record"

    def _record(self, state: HeadState) -> HeadState:
        attempts, tools = state["attempts"], state["tools"]
        place = best_attempt(attempts)
        intruder = state["evidence"].intruder
        description = settled(attempts[place], intruder)
        seen = tuple(sorted(tools.seen)) if tools else ()
        judging = state.get("judging", {}).get(place)
        if judging is not None:
            judging = without_sources(judging, seen, self.session.engine.checkpoint.vocabulary)
        told = attempts if tools else ()
        return {
            "description": description,
            "trace": Trace(told, state.get("conversation", ()), intruder, seen, judging),
        }


def _first(said: Said, evidence: Evidence, tools: HeadTools | None) -> HeadState:
    attempt = Attempt(said.description, None, said.decision)
    return {"evidence": evidence, "tools": tools, "attempts": (attempt,), "conversation": said.conversation}


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
        return _withdrawn(said, "its trial pairs contradict it")
    testable = trial.verdict == "weak" or trial.reason == TOO_FEW  # pairs that did not come say nothing of the head
    if testable and intruder is not None and intruder.share <= CHANCE_LIKE:
        told = f"an intruder was found in {intruder.found} of {intruder.n} trials"
        return _withdrawn(said, f"no trial supports it, and the rows are like those of any head ({told})")
    return said


def _withdrawn(said: HeadDescription, why: str) -> HeadDescription:
    return replace(
        said,
        status="unclear",
        operation="unclear",
        observed_pattern="Unclear.",
        confidence=0.0,
        reason=f"withdrawn: {why}; it said {said.operation!r}",
    )


def _rank(trial: Trial | None) -> int:
    return _RANK[trial.verdict] if trial else 1
