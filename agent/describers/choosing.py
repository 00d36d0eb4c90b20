"""`choose:PROVIDER:MODEL`: a language model picks among what was counted, for models that cannot name an operation.

The lexical describer's descriptions are put to the model with the rows and the counted facts. Its choice is tested
first, the others behind it in their own order; as always, the first that is supported is recorded. So a model that
chooses badly costs time and no truth, and null heads are named no more often than by the lexical describer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel, Field, create_model

from agent.describers.asking.answers import Reasoning
from agent.describers.asking.facts import fact_lines
from agent.describers.asking.prompting import choose_prompt
from agent.describers.lexical import LexicalDescriber
from agent.describers.protocol import CHOOSE
from agent.errors import ModelFault
from agent.llm.protocol import LanguageModel, Message
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence
from prompts import load_prompts

TEMPLATES: Final = ("choose", "system")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Descriptions, the chosen one first, and what was said on the way."""

    ranked: tuple[HeadDescription, ...]
    conversation: tuple[Message, ...] = ()


class ChoosingDescriber:
    """Ranks as the lexical describer does, with a language model's choice in front."""

    def __init__(self, model: LanguageModel, lexical: LexicalDescriber) -> None:
        self._model, self._lexical = model, lexical
        self.name = f"{CHOOSE}{model.name}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model's settings with the versions of the prompts, and those of the lexical describer; no API key."""
        templates = load_prompts().templates
        versions = {name: templates[name].version for name in TEMPLATES}
        return dict(self._model.settings) | {"prompts": versions, "lexical": dict(self._lexical.settings)}

    def describe(self, evidence: Evidence) -> HeadDescription:
        """The chosen description, before any test."""
        return self.ranked(evidence)[0]

    def ranked(self, evidence: Evidence) -> tuple[HeadDescription, ...]:
        """The chosen description, then the others; a failed one alone where the model gave no answer."""
        return self.choose(evidence).ranked

    def choose(self, evidence: Evidence) -> Chosen:
        """The same with the conversation; a model is asked only where there is a choice. Raises what stops a run."""
        settings = dict(self.settings)
        ranked = [replace(one, describer=self.name, settings=settings) for one in self._lexical.ranked(evidence)]
        counted = tuple(one for one in ranked if one.part is None)
        of_parts = tuple(one for one in ranked if one.part is not None)
        if len(counted) < 2:
            return Chosen(counted + of_parts)
        prompt, system = choose_prompt(evidence, counted, fact_lines(evidence)), load_prompts().templates["system"]
        try:
            reply = self._model.ask(
                prompt,
                choice_answer(len(counted)),
                system=system.text.strip(),
                about=f"head {evidence.layer}.{evidence.head}",
            )
        except ModelFault as fault:
            return Chosen((self._failed(fault),), (Message("user", prompt),))
        order = _in_front(range(len(counted)), reply.answer.model_dump()["choice"] - 1)
        turns = reply.messages or (Message("assistant", reply.raw),)
        return Chosen((*(replace(counted[i], raw_reply=reply.raw) for i in order), *of_parts), turns)

    def _failed(self, fault: ModelFault) -> HeadDescription:
        return HeadDescription(
            status="failed",
            describer=self.name,
            reason=f"{fault.kind}: {fault.reason}",
            raw_reply=fault.raw,
            settings=dict(self.settings),
        )


def choice_answer(n: int) -> type[BaseModel]:
    """The form of an answer that picks one of `n`, or none."""
    return create_model(f"ChoiceOf{n}", reasoning=(Reasoning, ...), choice=(int, Field(ge=0, le=n)))


def _in_front(places: Sequence[int], chosen: int) -> list[int]:
    """`places` with `chosen` first; as they are where it is not among them."""
    return [*(i for i in places if i == chosen), *(i for i in places if i != chosen)]
