"""Catalogue operations on small models: planted heads, too few pairs, first tokens, representations, JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.model import ModelShape
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.results import EngineSettings
from maps_engine.scores.summary import by_category, readable_p, summarise
from maps_engine.scores.table import score_relations
from maps_engine.scores.table_json import read_scores, scores_from_json, scores_to_json
from tests.support.memory_model import memory_checkpoint, memory_weights
from tests.support.relation_tables import made_up_scores

COUNTRY = load_relations(["country-to-capital"])[0]


def own_relation(pairs, *, name="own", k=1):
    return replace(COUNTRY, name=name, category="own", k=k, pairs=tuple((s, (t,)) for s, t in pairs))


def planted_engine(layer=1, head=4, *, sign=1.0, n=16):
    """w0 -> w100, …: the head reads coordinate i and writes the direction of target i; nothing else is touched."""
    w = memory_weights(ModelShape(3, 6, 2, 48, 16, 700))
    w.value_bias = None
    w.E = 0.02 * w.E
    w.E[:n] = 0
    w.E[:n, :n] = torch.eye(n)
    u = w.U[100 : 100 + n] / w.U[100 : 100 + n].norm(dim=-1, keepdim=True)
    w.value[layer, head // 3] = 0
    w.value[layer, head // 3, :n, :n] = torch.eye(n)
    w.output[layer, head] = 0
    w.output[layer, head, :n] = sign * u
    return MapsEngine(memory_checkpoint(w), EngineSettings(source="embedding"))


PLANTED = own_relation([(f"w{i}", f"w{100 + i}") for i in range(16)], k=3)
CONTROL = own_relation([(f"w{i}", f"w{300 + i}") for i in range(16)], name="control", k=3)


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 4), (2, 5)])
def test_a_planted_operation_is_found_in_its_head(layer, head):
    scores = score_relations(planted_engine(layer, head), [PLANTED, CONTROL], source="embedding", min_pairs=10)
    planted, control = summarise(scores, tau=0.15)
    if planted.name == "control":
        planted, control = control, planted
    assert planted.best[0].label == f"{layer}.{head}"
    assert planted.best[0].score >= 0.9
    assert planted.best[0].p < 1e-10
    assert control.best[0].score < 0.15
    assert control.best[0].p > 0.01


def test_a_planted_suppressor_is_found():
    scores = score_relations(planted_engine(sign=-1.0), [PLANTED], source="embedding", min_pairs=10)
    (found,) = summarise(scores, tau=0.15)
    assert (found.suppressors[0].label, found.n_suppressors) == ("1.4", 1)
    assert found.suppressors[0].score >= 0.9
    assert found.best[0].score < 0.15


def test_too_few_pairs_say_how_many():
    short = own_relation([("w1", "w2"), ("w3", "nowhere"), ("not here", "w4")])
    scores = score_relations(planted_engine(), [short, PLANTED], source="embedding", min_pairs=16)
    assert scores.relations[0].verdict == "too few pairs (1 of 3)"
    assert scores.relations[0].score is None
    assert [one.name for one in scores.scored] == ["own"]
    assert [one.verdict for one in scores.too_few] == ["too few pairs (1 of 3)"]
    assert summarise(scores, tau=0.15)[-1].verdict == "too few pairs (1 of 3)"


def test_nothing_scored_is_no_error():
    scores = score_relations(planted_engine(), [PLANTED], source="embedding", min_pairs=17)
    assert scores.scored == ()
    assert scores.stacked().shape == (0, 3, 6)
    assert list(by_category(summarise(scores, tau=0.15))) == []


@pytest.mark.parametrize("options", [{"k": 0}, {"min_pairs": 0}])
def test_senseless_options_are_refused(options):
    with pytest.raises(UserMistake, match="cannot be below 1"):
        score_relations(planted_engine(), [PLANTED], source="embedding", **options)


def test_k_overrides_the_relations_own():
    scores = score_relations(planted_engine(), [PLANTED], source="embedding", min_pairs=10, k=25)
    assert scores.relations[0].k == 25


def test_first_token_targets_are_marked():
    longer = own_relation([(f"w{i}", f"w{100 + i} w{200 + i}") for i in range(16)])
    engine = planted_engine()
    single = score_relations(engine, [longer], source="embedding", min_pairs=10)
    assert single.relations[0].verdict == "too few pairs (0 of 16)"
    first = score_relations(engine, [longer], source="embedding", min_pairs=10, target="first-token")
    assert (first.relations[0].target, first.relations[0].n_used) == ("first-token", 16)
    assert float(first.relations[0].score[1, 4]) >= 0.9


def test_any_of_several_targets_counts():
    both = replace(PLANTED, pairs=tuple((s, ("w350", *t)) for s, t in PLANTED.pairs))
    scores = score_relations(planted_engine(), [both], source="embedding", min_pairs=10)
    assert float(scores.relations[0].score[1, 4]) >= 0.9


def test_the_engines_own_representation_is_scored_under_unless_another_is_named():
    engine = planted_engine()
    seen = []
    own = score_relations(engine, [PLANTED, CONTROL], min_pairs=10, progress=seen.append)
    named = score_relations(engine, [PLANTED, CONTROL], source="first-mlp", min_pairs=10)
    assert seen == [0, 1, 2]
    assert (own.source, named.source) == ("embedding", "first-mlp")
    assert own.relations[0].score[1, 4] >= 0.9
    assert named.relations[0].score[1, 4] < 0.3  # the planted head reads embeddings


def test_scores_say_what_heads_were_given_to_read():
    engine = planted_engine()
    behind = MapsEngine(engine.checkpoint, replace(engine.settings, lead_in=("", " w5")))
    scores = score_relations(behind, [PLANTED], min_pairs=10)
    assert (scores.lead_in, scores.reading) == (("", " w5"), "embedding")
    read = replace(scores, source="residual").reading
    assert read == "residual behind the start of texts or the start of texts and ' w5'"


@pytest.mark.parametrize("source", ["embedding", "first-mlp"])
def test_json_holds_what_was_promised_and_comes_back(source, tmp_path):
    short = own_relation([("w1", "w2")], name="short")
    scores = score_relations(planted_engine(), [PLANTED, short], source=source, min_pairs=10)
    whole = scores_to_json(scores)
    json.dumps(whole, allow_nan=False)
    first, second = whole["relations"]
    assert (whole["model"], whole["source"], whole["lead_in"]) == ("memory", source, [""])
    assert {"name", "k", "pairs", "used", "scores", "suppression", "null"} <= set(first)
    assert (len(first["scores"]), len(first["scores"][0])) == (3, 6)
    assert second["scores"] is second["suppression"] is second["null"] is None
    path = tmp_path / "a.json"
    path.write_text(json.dumps(whole))
    assert scores_to_json(read_scores(path)) == whole
    assert scores_to_json(scores_from_json(whole)) == whole


def test_lead_ins_come_back(tmp_path):
    whole = scores_to_json(replace(made_up_scores(n=3, source="residual"), lead_in=("", " the")))
    assert scores_from_json(json.loads(json.dumps(whole))).lead_in == ("", " the")
    del whole["lead_in"]  # as files are that were saved before it was there
    assert scores_from_json(whole).lead_in == ("",)


def test_of_a_file_with_several_representations_the_table_of_the_best_is_read(tmp_path):
    parts = [made_up_scores(n=4, source=name, seed=i) for i, name in enumerate(("embedding", "first-block"))]
    whole = scores_to_json(parts[0])
    del whole["lead_in"]
    for at, one in enumerate(whole["relations"][:-1]):
        other = scores_to_json(parts[1])["relations"][at]
        for table in ("scores", "suppression"):
            pairs = [list(zip(*rows, strict=True)) for rows in zip(one[table], other[table], strict=True)]
            one[table] = [[max(pair) for pair in row] for row in pairs]
        one["through"] = one["suppression_through"] = [["embedding"] * 9] * 30
    whole |= {"source": "auto", "sources": [part.source for part in parts]}
    whole["by_source"] = {part.source: scores_to_json(part)["relations"] for part in parts}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(whole))
    found = read_scores(path)
    assert (found.source, found.lead_in) == ("auto", ("",))
    assert [one.name for one in found.scored] == [one.name for one in parts[0].scored]
    for best, *of_parts in zip(found.scored, *(part.scored for part in parts), strict=True):
        expected = torch.stack([one.score for one in of_parts]).max(0).values
        torch.testing.assert_close(best.score, expected, rtol=0, atol=1e-5)
        assert not torch.equal(best.score, of_parts[0].score)
    assert {"through", "by_source", "sources"}.isdisjoint(scores_to_json(found))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other"}', "[" * 100_000, '{"format": "headscribe relation scores 1"}']
)
def test_other_files_are_no_tables(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserMistake, match="no table of relation scores") as caught:
        read_scores(path, instead="Do that.")
    assert str(caught.value).endswith("Do that.")


def test_a_table_of_the_wrong_size_is_refused(tmp_path):
    whole = scores_to_json(made_up_scores(layers=2, heads=2, value_heads=1, n=3))
    whole["relations"][0]["scores"] = [[0.1]]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(whole))
    with pytest.raises(UserMistake, match="damaged"):
        read_scores(path)


def test_summaries_are_grouped_and_sorted():
    summaries = summarise(made_up_scores(), tau=0.15, top=4)
    assert not summaries[-1].best
    groups = dict(by_category(summaries))
    assert sorted(groups) == list(groups)
    for rows in groups.values():
        assert [one.strongest for one in rows] == sorted((one.strongest for one in rows), reverse=True)
        assert all(len(one.best) == 4 for one in rows)


def test_equal_scores_name_the_first_head():
    scores = made_up_scores(layers=2, heads=3, value_heads=3, n=2)
    flat = replace(scores.relations[0], score=torch.full((2, 3), 0.5))
    (found,) = summarise(replace(scores, relations=(flat,)), tau=0.15, top=2)
    assert [head.label for head in found.best] == ["0.0", "0.1"]
    assert found.n_heads == 6


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (float("nan"), "–"),
        (0.0, "<1e-99"),
        (1e-120, "<1e-99"),
        (2.4e-13, "2e-13"),
        (0.0004, "4e-4"),
        (0.034, "0.034"),
        (0.25, "0.25"),
        (0.999, "1"),
        (1.0, "1"),
    ],
)
def test_readable_p(p, text):
    assert readable_p(p) == text


def test_encoding_is_what_is_scored():
    encoded = encode_relation(PLANTED, planted_engine().checkpoint.vocabulary)
    scores = score_relations(planted_engine(), [PLANTED], source="embedding", min_pairs=1)
    assert (scores.relations[0].n_used, scores.relations[0].n_pairs) == (encoded.n_used, encoded.n_pairs) == (16, 16)


SHOWN = [  # relation, source, head, score, side: neighbourhood measured independently on other pairs
    ("name-copying", "first-mlp", "23.2", 0.84, "best"),
    ("name-copying", "embedding", "29.1", 0.99, "best"),
    ("name-copying", "first-mlp", "23.3", 0.87, "suppressors"),
    ("country-to-capital", "first-mlp", "23.4", 0.67, "best"),
    ("country-to-capital", "embedding", "29.2", 0.87, "best"),
    ("noun-to-pronoun", "first-mlp", "26.2", 0.56, "best"),
    ("adjective-to-superlative", "embedding", "27.4", 0.56, "best"),
]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("source", ["first-mlp", "embedding"])
def test_smollm2_shows_the_expected_neighbourhood(source):
    expected = [one for one in SHOWN if one[1] == source]
    relations = load_relations(dict.fromkeys(row[0] for row in expected))
    scores = score_relations(MapsEngine.open("smollm2-135m"), relations, source=source)
    found = {one.name: one for one in summarise(scores, tau=0.15)}
    for name, _, head, score, side in expected:
        best = getattr(found[name], side)[0]
        assert best.label == head, name
        assert best.score == pytest.approx(score, abs=0.15), name
        assert best.p < 1e-6, name
