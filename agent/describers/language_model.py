"""A describer that asks a language model, whoever serves it: names, revises after a trial, thinks of new pairs.

It also names the parts of a head one by one.

What goes wrong with one question (`ModelFault`) is a failed description with the kind, the reason and the raw reply;
what must stop the run (`BudgetSpent`, `ModelDown`) is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.describers.asking.answers import MAX_PROPOSED, DescribeAnswer, PairsAnswer, ReviseAnswer, described
from agent.describers.asking.facts import counted_besides, fact_lines, parts_to_tell
from agent.describers.asking.part_names import TEMPLATE as PARTS_TEMPLATE
from agent.describers.asking.part_names import named_parts, parts_answer, parts_prompt
from agent.describers.asking.prompting import TEMPLATES, describe_prompt, pairs_prompt, revise_prompt
from agent.describers.asking.quotation import quoted_instructions
from agent.describers.protocol import Proposed, Said, SaidOfParts
from agent.errors import ModelFault
from agent.llm.options import MAX_REVISIONS, NAMED_PARTS
from agent.llm.protocol import LanguageModel, Message, Reply, Tool
from agent.llm.structured_output import ECHO
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence
from agent.results.reports import Attempt
from prompts import load_prompts

TOOL_CALLS: Final = 4  # for one question


class LanguageModelDescriber:
    """`openai:MODEL`, `local:PATH_OR_ID` or any provider of LangChain: see `agent.llm.models`."""

    def __init__(
        self, model: LanguageModel, *, max_revisions: int = MAX_REVISIONS, most_parts: int = NAMED_PARTS
    ) -> None:
        self._model = model
        self.max_revisions = max_revisions
        self.most_parts = most_parts
        self.name = model.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model's settings with the versions of all prompts; no API key."""
        templates = load_prompts().templates
        asked = (*TEMPLATES, *([PARTS_TEMPLATE] if self.most_parts else []))
        versions = {name: templates[name].version for name in asked}
        return dict(self._model.settings) | {
            "prompts": versions,
            "max_revisions": self.max_revisions,
            "most_parts": self.most_parts,
            "tool_calls_offered": TOOL_CALLS,
        }

    def describe(self, evidence: Evidence) -> HeadDescription:
        """The first description, without tools."""
        return self.propose(evidence).description

    def propose(self, evidence: Evidence, *, tools: Sequence[Tool] = ()) -> Said:
        """A description of the head, or a failed one with the reason."""
        return self._said(evidence, describe_prompt(evidence, fact_lines(evidence)), DescribeAnswer, tools)

    def revise(self, evidence: Evidence, attempts: Sequence[Attempt], *, tools: Sequence[Tool] = ()) -> Said:
        """The last attempt kept, changed or withdrawn in the light of its trial."""
        return self._said(evidence, revise_prompt(evidence, attempts, fact_lines(evidence)), ReviseAnswer, tools)

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed:
        """Up to `n` new pairs for a description of this model's own; where none came, `problem` says why."""
        prompt = pairs_prompt(description, n=min(n, MAX_PROPOSED), excluded=excluded)
        try:
            reply = self._model.ask(prompt, PairsAnswer, system=_system())
        except ModelFault as fault:
            return Proposed((), _fault_turns(prompt, fault), f"no pairs came: {_why(fault)}")
        answer = reply.answer
        pairs = tuple((pair.source, pair.target) for pair in answer.pairs)
        return Proposed(pairs, _turns(reply), exact=answer.exact)

    def name_parts(self, evidence: Evidence) -> SaidOfParts:
        """What the largest parts of the head do; names that would be refused for a head are left out."""
        parts = parts_to_tell(evidence, self.most_parts)
        if not parts:
            return SaidOfParts(())
        prompt, about = parts_prompt(evidence, parts), f"parts of head {evidence.layer}.{evidence.head}"
        try:
            reply = self._model.ask(prompt, parts_answer(len(parts)), system=_system(), about=about)
        except ModelFault as fault:
            return SaidOfParts((), _fault_turns(prompt, fault))
        given: Any = reply.answer
        found = named_parts(given.parts, parts, raw=reply.raw, describer=self.name, settings=dict(self.settings))
        shown = _shown_tokens(evidence)
        return SaidOfParts(tuple(one for one in found if not quoted_instructions(one, shown)), _turns(reply))

    def _said(
        self,
        evidence: Evidence,
        prompt: str,
        form: type[DescribeAnswer] | type[ReviseAnswer],
        tools: Sequence[Tool],
    ) -> Said:
        settings = dict(self.settings)
        try:
            reply: Reply[Any] = self._model.ask(
                prompt,
                form,
                system=_system(),
                tools=tools,
                max_tool_calls=TOOL_CALLS,
                about=f"head {evidence.layer}.{evidence.head}",
            )
        except ModelFault as fault:
            if fault.kind == ECHO:  # twice: it has seen nothing that it could name
                return Said(self._unclear(fault), "proposed", _fault_turns(prompt, fault))
            return Said(self._failed(_why(fault), fault.raw), "failed", _fault_turns(prompt, fault))
        found = described(
            reply.answer,
            raw=reply.raw,
            describer=self.name,
            settings=settings,
            n_rows=len(evidence.rows),
            n_facts=counted_besides(evidence),
        )
        problem = quoted_instructions(found, _shown_tokens(evidence))
        if problem:
            return Said(self._failed(f"quotation: {problem}", reply.raw), "failed", _turns(reply))
        return Said(found, _decision(reply.answer, found), _turns(reply))

    def _unclear(self, fault: ModelFault) -> HeadDescription:
        return HeadDescription(
            status="unclear",
            describer=self.name,
            observed_pattern="Unclear.",
            operation="unclear",
            reason=f"the describer repeated its question: {fault.reason}",
            raw_reply=fault.raw,
            settings=dict(self.settings),
        )

    def _failed(self, reason: str, raw: str) -> HeadDescription:
        return HeadDescription(
            status="failed", describer=self.name, reason=reason, raw_reply=raw, settings=dict(self.settings)
        )


def _decision(answer: DescribeAnswer | ReviseAnswer, found: HeadDescription) -> str:
    if isinstance(answer, DescribeAnswer):
        return "proposed"
    if found.status == "unclear":
        return "withdrawn"
    return "kept" if answer.decision == "keep" else "changed"


def _why(fault: ModelFault) -> str:
    return f"{fault.kind}: {fault.reason}"


def _turns(reply: Reply[Any]) -> tuple[Message, ...]:
    return reply.messages or (Message("assistant", reply.raw),)


def _fault_turns(prompt: str, fault: ModelFault) -> tuple[Message, ...]:
    """What is known of a conversation that failed: the question, the last reply, and why it was no use."""
    replied = (Message("assistant", fault.raw),) if fault.raw else ()
    return (Message("user", prompt), *replied, Message("tool", f"no usable answer: {_why(fault)}"))


def _shown_tokens(evidence: Evidence) -> list[str]:
    of_rows = [text for row in evidence.rows for text in (row.token, *(target.token for target in row.targets))]
    of_parts = [row.token for part in evidence.parts for row in part.rows]
    of_parts += [one.token for part in evidence.parts for one in part.targets]
    return of_rows + of_parts + [one.token for one in (evidence.constant.targets if evidence.constant else ())]


def _system() -> str:
    return load_prompts().templates["system"].text.strip()
