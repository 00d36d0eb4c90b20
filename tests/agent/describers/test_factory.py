"""Describers by name, and what a language model's describer says of itself."""

from __future__ import annotations

import json

import pytest

from agent.describers.factory import chosen_name, make_describer
from agent.describers.language_model import LanguageModelDescriber
from agent.describers.protocol import PairProposer, RevisingDescriber
from agent.errors import ModelFault, UnknownDescriber
from agent.results.descriptions import HeadDescription
from agent.results.evidence import Evidence
from tests.support.agent.mappings import mapping, row
from tests.support.agent.queue_models import QueueModel, said

EVIDENCE = Evidence.of(mapping([row(" France", [" Paris"])]))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "needle"),
    [
        ("openai:", "needs a provider and a model"),
        ("openai:m", "no key"),
        ("gpt", "no such describer"),
        (":m", "needs"),
    ],
)
def test_names_that_cannot_be(name, needle):
    with pytest.raises(UnknownDescriber, match=needle):
        make_describer(name, fields=lambda: None, relations=())


def test_auto_takes_a_language_model_where_one_is_set(monkeypatch):
    assert chosen_name("auto") == "lexical"
    assert chosen_name("openai:x") == "openai:x"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert chosen_name("auto") == "openai:gpt-4o"
    monkeypatch.setenv("OPENAI_MODEL", "small")
    made = make_describer("auto", fields=lambda: None, relations=(), max_revisions=1)
    assert (made.name, made.max_revisions) == ("openai:small", 1)


def test_settings_hold_every_prompt_version_and_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    settings = dict(make_describer("openai:m", fields=lambda: None, relations=()).settings)
    assert "sk-not" not in json.dumps(settings)
    assert set(settings["prompts"]) == {"describe", "name_parts", "revise", "propose_pairs", "system"}
    assert {"max_revisions", "tool_calls", "model", "base_url"} <= set(settings)


def test_it_is_a_reviser_and_answers_alone_too():
    describer = LanguageModelDescriber(QueueModel([said("country to capital")]))
    assert isinstance(describer, RevisingDescriber)
    assert isinstance(describer, PairProposer)
    found = describer.describe(EVIDENCE)
    assert (found.status, found.operation, found.confidence) == ("ok", "country to capital", 0.7)
    assert found.settings["prompts"]["describe"]


def test_proposed_pairs_and_why_there_are_none():
    pairs = {"pairs": [{"source": "France", "target": "Paris"}]}
    description = HeadDescription("ok", "x", operation="country to capital")
    model = QueueModel([], pairs)
    found = LanguageModelDescriber(model).propose_pairs(description, n=900, excluded=["spain"])
    assert found.pairs == (("France", "Paris"),)
    assert "Give 30 new examples" in model.asked[0].prompt
    assert '"spain"' in model.asked[0].prompt
    failed = QueueModel([], ModelFault("refusal", "the model refused: no", raw="no"))
    found = LanguageModelDescriber(failed).propose_pairs(description, n=9, excluded=[])
    assert (found.pairs, found.problem) == ((), "no pairs came: refusal: the model refused: no")
    assert [turn.role for turn in found.conversation] == ["user", "assistant", "tool"]
