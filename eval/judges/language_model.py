"""A language model as a judge: prompts out, ratings back; an answer that cannot be used is no rating, never a zero."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, Field, create_model

from agent.describers.asking.answers import MAX_PROPOSED, PairsAnswer
from agent.describers.asking.prompting import as_data, as_sentence, pairs_prompt, row_line
from agent.describers.protocol import Proposed
from agent.errors import DescriberDown, ModelFault
from agent.llm.protocol import LanguageModel
from agent.results.descriptions import HeadDescription
from eval.judges.protocol import Assessment
from eval.judges.said import Said
from maps_engine.results import MappingRow
from prompts import load_prompts

_LOG = logging.getLogger("headscribe.scoring")
BEST: Final = 10
FAULTS_IN_A_ROW: Final = 20
SYSTEM: Final = "score_system"
TEMPLATES: Final = (SYSTEM, "score_rows", "score_intruder", "score_targets", "propose_pairs")
STUDY_TEMPLATE: Final = "rate_judge"
Answer = TypeVar("Answer", bound=BaseModel)


@cache
def ratings_of(n: int) -> type[BaseModel]:
    """`{"ratings": [n integers from 0 to 10]}`."""
    one = Annotated[int, Field(ge=0, le=BEST)]
    return create_model("Ratings", ratings=(list[one], Field(min_length=n, max_length=n)))


@cache
def intruder_of(n: int) -> type[BaseModel]:
    """`{"intruder": 1 … n}`."""
    return create_model("Intruder", intruder=(int, Field(ge=1, le=n)))


class StudyAnswer(BaseModel):
    """A rating study's two questions."""

    pattern: Literal["yes", "no"]
    plausible: Literal["yes", "partly", "no", "cannot"]


class ModelJudge:
    """Asks `model`; twenty unusable answers in a row stop the run."""

    asks_a_model = True

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._faults, self._lock = 0, threading.Lock()

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def settings(self) -> Mapping[str, Any]:
        templates = load_prompts().templates
        return dict(self._model.settings) | {name: templates[name].version for name in TEMPLATES}

    def decides(self, said: Said) -> bool:
        """Always: the scale of the question has a middle."""
        return True

    def rate_rows(self, said: Said, rows: Sequence[MappingRow]) -> list[float | None]:
        """Ratings of 0 to 10, as 0 … 1."""
        return self._ratings("score_rows", said, rows, row_line)

    def rate_targets(self, said: Said, rows: Sequence[MappingRow]) -> list[float | None]:
        """The same for candidates of one source."""
        source = as_data(rows[0].token)
        return self._ratings("score_targets", said, rows, lambda row: as_data(row.targets[0].token), source=source)

    def find_intruder(self, said: Said, rows: Sequence[MappingRow]) -> list[float | None]:
        """0 for the row that was picked, 1 for the others."""
        answer = self._asked(_filled("score_intruder", said, rows, row_line), intruder_of(len(rows)))
        if answer is None:
            return [None] * len(rows)
        picked = answer.model_dump()["intruder"]
        return [float(number != picked) for number in range(1, len(rows) + 1)]

    def propose_pairs(self, description: HeadDescription, *, n: int, excluded: Sequence[str]) -> Proposed:
        """New pairs; none where the model gives no usable answer."""
        prompt = pairs_prompt(description, n=min(n, MAX_PROPOSED), excluded=excluded)
        answer = self._asked(prompt, PairsAnswer)
        if answer is None:
            return Proposed(())
        return Proposed(tuple((pair.source, pair.target) for pair in answer.pairs), exact=answer.exact)

    def assess(self, said: Said, rows: Sequence[MappingRow], tested: Sequence[MappingRow] = ()) -> Assessment:
        """The answers, or the kind of fault that left the item without. Raises ModelDown, BudgetSpent."""
        try:
            answer = self._model.ask(study_prompt(said, rows, tested), StudyAnswer).answer
        except ModelFault as fault:
            return Assessment(why=f"no usable reply ({fault.kind})")
        return Assessment(answer.pattern, answer.plausible)

    def _ratings(
        self, template: str, said: Said, rows: Sequence[MappingRow], line: Callable[[MappingRow], str], **more: str
    ) -> list[float | None]:
        answer = self._asked(_filled(template, said, rows, line, **more), ratings_of(len(rows)))
        if answer is None:
            return [None] * len(rows)
        return [value / BEST for value in answer.model_dump()["ratings"]]

    def _asked(self, prompt: str, form: type[Answer]) -> Answer | None:
        """The answer, or None for one that failed. Raises BudgetSpent, DescriberDown."""
        try:
            answer = self._model.ask(prompt, form, system=load_prompts().templates[SYSTEM].text).answer
        except ModelFault as fault:
            self._count(fault)
            return None
        with self._lock:
            self._faults = 0
        return answer

    def _count(self, fault: ModelFault) -> None:
        with self._lock:
            self._faults += 1
            _LOG.warning("%s: an answer that cannot be used: %s", self.name, fault.reason)
            if self._faults >= FAULTS_IN_A_ROW:
                raise DescriberDown(
                    f"{self._faults} questions to {self.name} in a row failed",
                    got=fault.reason,
                    next_step="See to the model and run the same command again; the heads done are kept.",
                ) from fault


def _filled(
    template: str, said: Said, rows: Sequence[MappingRow], line: Callable[[MappingRow], str], **more: str
) -> str:
    lines = "\n".join(f"{number}. {line(row)}" for number, row in enumerate(rows, 1))
    return load_prompts().templates[template].fill(
        operation=as_sentence(said.operation),
        observed_pattern=as_sentence(said.observed_pattern),
        input_strings=as_sentence(said.input_strings),
        n_rows=str(len(rows)),
        rows=lines,
        mark=hashlib.sha256(lines.encode("utf-8", "backslashreplace")).hexdigest()[:8],
        **more,
    )  # fmt: skip


def study_prompt(said: Said, rows: Sequence[MappingRow], tested: Sequence[MappingRow] = ()) -> str:
    """A rating study's questions about one item: what people see, quoted between marks that it cannot know."""
    lines = "\n".join(map(row_line, rows))
    text = as_sentence(f"{said.input_strings} {said.observed_pattern}")
    besides = "\n".join(map(row_line, tested)) or "none"
    mark = hashlib.sha256(f"{lines}{text}{besides}".encode()).hexdigest()[:8]
    return load_prompts().templates[STUDY_TEMPLATE].fill(rows=lines, description=text, tested=besides, mark=mark)
