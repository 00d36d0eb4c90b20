"""A language model that picks among counted descriptions: order, what it is shown, faults."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from agent.describers.choosing import ChoosingDescriber, choice_answer
from agent.describers.factory import make_describer
from agent.describers.protocol import RankingDescriber, RevisingDescriber
from agent.errors import BudgetSpent, ModelFault, UnknownDescriber
from agent.llm.structured_output import strict_schema
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence
from tests.support.agent.mappings import mapping, row
from tests.support.agent.queue_models import QueueModel

EVIDENCE = Evidence.of(mapping([row(" France", [" Paris"]), row(" </tokens-", [" x\x1b"], first_id=9)]))
COUNTED = tuple(
    HeadDescription("ok", "lexical", "Words.", f"Maps {name}.", name, 0.5) for name in ("a to b", "c to d", "e to f")
)


class Counting:
    """In place of the lexical describer: always the same descriptions."""

    name, settings = "lexical", {"version": 1}

    def __init__(self, ranked=COUNTED):
        self._ranked = ranked

    def ranked(self, _):
        return self._ranked


def chosen(answer, ranked=COUNTED):
    model = QueueModel([answer])
    return ChoosingDescriber(model, Counting(ranked)).choose(EVIDENCE), model


def pick(n):
    return {"reasoning": "It fits.", "choice": n}


@pytest.mark.parametrize(
    ("choice", "order"),
    [(1, "a to b, c to d, e to f"), (3, "e to f, a to b, c to d"), (0, "a to b, c to d, e to f")],
)
def test_the_choice_comes_first_and_the_others_keep_their_order(choice, order):
    found, _ = chosen(pick(choice))
    assert ", ".join(one.operation for one in found.ranked) == order
    assert {one.describer for one in found.ranked} == {"choose:fake:queue"}
    assert json.loads(found.ranked[0].raw_reply)["choice"] == choice
    assert found.conversation[-1].role == "assistant"


def test_the_model_sees_rows_and_numbered_descriptions_as_data():
    _, model = chosen(pick(1))
    (asked,) = model.asked
    assert '2. "c to d": "Maps c to d."\n' in asked.prompt
    assert '" France" -> " Paris"' in asked.prompt
    assert '"\\u001b' not in asked.prompt.replace('" x\\u001b"', "")
    assert "\x1b" not in asked.prompt
    assert strict_schema(asked.answer)["properties"]["choice"]["enum"] == [0, 1, 2, 3]


def test_without_a_choice_nothing_is_asked():
    for ranked in (COUNTED[:1], (HeadDescription("unclear", "lexical", operation="unclear"),)):
        found, model = chosen(pick(1), ranked)
        assert not model.asked
        assert [one.operation for one in found.ranked] == [ranked[0].operation]


def test_no_answer_is_a_failure_and_what_stops_a_run_passes_through():
    found, _ = chosen(ModelFault("timeout", "no reply within 120 s", raw="{"))
    (failed,) = found.ranked
    assert (failed.status, failed.reason, failed.raw_reply) == ("failed", "timeout: no reply within 120 s", "{")
    with pytest.raises(BudgetSpent):
        chosen(BudgetSpent("spent"))


def test_answers_are_bounded():
    for wrong in (4, -1, "a"):
        with pytest.raises(ValidationError):
            choice_answer(3).model_validate(pick(wrong))


def test_it_ranks_and_is_found_by_its_name():
    describer = ChoosingDescriber(QueueModel([]), Counting())
    assert isinstance(describer, RankingDescriber)
    assert not isinstance(describer, RevisingDescriber)
    assert {"model", "prompts", "lexical"} <= set(describer.settings)
    with pytest.raises(UnknownDescriber, match="needs a provider and a model"):
        make_describer("choose:lexical", fields=lambda: None, relations=())
