"""The tools of the agent on a tiny model: short, quoted, bounded, and closed to held-out rows."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from agent.pipeline.asking.head_tools import KEPT_BACK, HeadTools, NothingAsked, PairsAsked, TokensAsked, sources_in
from agent.words.spelling import core
from tests.agent.describers.asking.test_prompting import HOSTILE
from tests.support.agent.queue_models import PairMaker, QueueModel, agent_bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return agent_bench(tmp_path_factory.mktemp("model") / "tiny", QueueModel([]))


@pytest.fixture(scope="module")
def mapping(bench):
    return bench.maps.map_head(1, 2)


@pytest.fixture
def tools(bench, mapping):
    return HeadTools(mapping, bench.scorer, bench.neighbours)


@pytest.fixture(scope="module")
def maker(bench, mapping):
    return PairMaker(bench, mapping)


@pytest.fixture(scope="module")
def free(bench, maker, mapping):
    """Words that no tool refuses."""
    asked = HeadTools(mapping, bench.scorer, bench.neighbours)
    return [w for w in maker.words if KEPT_BACK not in asked.rows_of_tokens(TokensAsked(tokens=[w]))]


def pairs(*made):
    return PairsAsked.model_validate({"pairs": [{"source": s, "target": t} for s, t in made]})


def test_rows_are_those_of_the_engine_on_the_residual_stream(tools, bench, mapping, free):
    text = tools.rows_of_tokens(TokensAsked(tokens=[free[0].strip(), free[1]]))
    lines = text.splitlines()
    ids = [bench.maps.checkpoint.vocabulary.encode(w)[0] for w in free[:2]]
    assert mapping.source == "embedding"
    rows = bench.maps.at("residual").rows_of_heads({(1, 2): ids}, targets=10)[1, 2]  # as many as count
    for line, one in zip(lines, rows, strict=True):
        source, _, targets = line.partition(" -> ")
        assert json.loads(source) == one.token
        assert json.loads(f"[{targets}]") == [t.token for t in one.targets]
    assert tools.seen == {core(w) for w in free[:2]}


def test_rows_of_shown_tokens_equal_the_mapping(bench, mapping):
    found = bench.maps.at(mapping.source).rows_of(1, 2, [row.token_id for row in mapping.rows])
    for one, shown in zip(found, mapping.rows, strict=True):
        assert one.salience == pytest.approx(shown.salience, rel=1e-5)
        assert [t.token_id for t in one.targets] == [t.token_id for t in shown.targets]


def test_held_out_tokens_are_refused_by_every_tool(tools, mapping, free):
    held = [row.token for row in mapping.held_out_rows if row.token.strip()]
    for token in (*held[:2], held[0].strip().upper()):
        assert tools.rows_of_tokens(TokensAsked(tokens=[token])) == f"{json.dumps(token)}: {KEPT_BACK}"
    text = tools.score_pairs(pairs((held[0], free[0])))
    assert KEPT_BACK in text
    assert "hit" not in text
    assert tools.seen == set()
    near = tools.similar_heads(NothingAsked())
    assert not set(sources_in(near)) & {*held}


def test_a_refusal_does_not_tell_which_words_are_salient(tools, maker, mapping, free):
    held = {core(row.token) for row in mapping.held_out_rows}
    refused = [w for w in maker.words if w not in free]
    assert [w for w in refused if core(w) not in held], "some are refused that are not held out"
    assert {core(w) for w in refused} >= held & {core(w) for w in maker.words}


def test_scores_of_pairs(tools, maker, free):
    true = [(w.strip(), maker.best[w].strip()) for w in free if w in maker.best][:4]
    text = tools.score_pairs(pairs(*true, ("two words", "x"), ("absentword", "x")))
    assert text.startswith(f"{len(true)} of {len(true)} targets are among the top 10 of this head; higher than ")
    assert text.count(": hit") == len(true)
    assert "; 2 of several tokens fell out\n" in text
    assert tools.seen == {s for s, _ in true}
    assert tools.score_pairs(pairs(("no such", "x"))).startswith("None of these pairs")


def test_similar_heads_are_of_the_layer_and_counted_as_seen(tools):
    text = tools.similar_heads(NothingAsked())
    heads = [line.split()[1] for line in text.splitlines() if line.startswith("head ")]
    assert len(heads) == 3
    assert "1.2" not in heads
    assert any("1.3" in line and "shares the value head" in line for line in text.splitlines())
    assert tools.seen >= {core(s) for s in sources_in(text)}


def test_hostile_arguments_stay_data(tools):
    for at in range(0, len(HOSTILE), 8):
        text = tools.rows_of_tokens(TokensAsked.model_construct(tokens=list(HOSTILE[at : at + 8])))
        assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)
        assert len(text) < 2000
    speakable = [token[:40] for token in HOSTILE if token != "\ud800"]  # which no validated argument can hold
    text = tools.score_pairs(pairs(*((token, token) for token in speakable)))
    assert all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (TokensAsked, {"tokens": []}),
        (TokensAsked, {"tokens": ["a"] * 9}),
        (TokensAsked, {"tokens": "a"}),
        (TokensAsked, {"tokens": ["a"], "layer": 3}),
        (PairsAsked, {"pairs": [{"source": "a", "target": "b"}] * 17}),
        (PairsAsked, {"pairs": [{"source": "a"}]}),
        (PairsAsked, {"pairs": [{"source": "a" * 41, "target": "b"}]}),
        (NothingAsked, {"head": 3}),
    ],
)
def test_arguments_are_bounded(form, values):
    with pytest.raises(ValidationError):
        form.model_validate(values)


def test_tools_have_names_descriptions_and_schemas(tools):
    for tool in tools.tools():
        assert tool.name.isidentifier()
        assert 10 < len(tool.description) < 80
        assert tool.arguments.model_json_schema()["type"] == "object"
