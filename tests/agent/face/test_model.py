"""The Python interface on a tiny model: what the commands give, in a few lines, and tables that are inert."""

from __future__ import annotations

import dataclasses
import json

import pytest

import headscribe as hs
from agent.describers.language_model import LanguageModelDescriber
from agent.face import model as face
from agent.face.results import as_html
from agent.runs.database import open_database
from agent.runs.tables import list_runs
from maps_engine.errors import BadRelationFile, OutOfRange, UnknownModel, UserMistake
from maps_engine.qk.kinds import KINDS
from tests.support.agent.bulk_runs import QueueDescriber, lettered
from tests.support.agent.queue_models import QueueModel, said, wordy_model
from tests.support.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model("llama", tmp_path_factory.mktemp("face") / "tiny")[0]


@pytest.fixture
def model(folder, tmp_path, monkeypatch):
    """Opened through the front door; words are embedded by their letters, descriptions follow a rule."""
    monkeypatch.setattr(face, "equip", lambda maps, _: lettered(maps, QueueDescriber(), tmp_path / "chroma"))
    return hs.open_model(folder, source="embedding", top=8, targets=3, device="cpu")


def test_a_head_in_three_lines(model):
    head = model.head(1, 2)
    found = head.describe()
    assert (found.status, found.operation, found.verdict) == ("ok", "copying", found.report.test.verdict)
    assert str(found).startswith("1.2 ok: copying (")
    assert found.to_dict()["layer"] == 1
    assert json.dumps(found.to_dict())
    assert found.mapping.rows == head.mapping.rows
    assert "said by openai:rule" in found._repr_html_()


def test_the_mapping_is_the_engines(model):
    table = model.head(0, 3).mapping
    found = model.maps.with_parts(list(model.maps.map_heads([0], heads=[3])))
    (expected,) = model.maps.with_same_tokens(found)
    assert expected.same_tokens is not None
    assert expected == model.head(0, 3).describe().report.mapping
    assert model.head(0, 3).parts == expected.parts
    assert table.mapping == expected
    assert table.to_dict() == expected.to_json()
    frame = table.to_pandas()
    assert list(frame.columns) == ["token", "salience", "targets", "same_tokens", "suppressed"]
    assert len(frame) == len(expected.rows) == 8
    assert "Head 0.3 of" in table._repr_html_()
    assert model.head(0, 3)._repr_html_() == table._repr_html_()


def test_relations_by_pairs_of_ones_own(model):
    pairs = [(" the", " red"), (" a", " cat"), (" one", " two"), (" he", " she")]
    table = model.relations(pairs={"mine": pairs}, min_pairs=2)
    (scored,) = table.scores.scored
    assert (scored.name, scored.n_used) == ("mine", 2)  # " one", " he": several tokens, or none for the target
    frame = table.to_pandas()
    assert len(frame) == model.n_layers * model.n_heads
    best = table.best(1).iloc[0]
    assert best["score"] == frame["score"].max() == float(scored.score.max())
    own = model.head(1, 1).relations(pairs={"mine": pairs}, min_pairs=2)
    assert list(own["score"]) == [float(scored.score[1, 1])]
    assert table.to_dict()["relations"]
    assert "1 operations on" in table._repr_html_()


def test_relations_of_the_catalogue_with_too_few_pairs_are_said(model):
    table = model.relations(["country-to-capital"])
    assert [one.name for one in table.scores.too_few] == ["country-to-capital"]
    assert table.to_pandas().empty
    assert "too few pairs: country-to-capital" in table._repr_html_()


def test_progress_is_called_once_a_layer(model):
    steps = []
    model.relations(pairs={"mine": [(" the", " red")]}, min_pairs=1, progress=lambda *step: steps.append(step))
    assert steps == [(1, 2, "embedding"), (2, 2, "embedding")]


def test_labelling_is_one_resumable_run(model, tmp_path):
    steps = []
    store = tmp_path / "heads.sqlite"
    part = model.label(store=store, layers="1", progress=lambda *step: steps.append(step))
    assert [(one.layer, one.head) for one in part.heads] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert [step[:2] for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    whole = model.label(store=store)
    assert (whole.run_id, len(whole.heads)) == (part.run_id, 8)
    frame = whole.to_pandas()
    assert {"layer", "head", "status", "operation", "verdict", "score", "percentile"} <= set(frame.columns)
    assert f"Run {whole.run_id}: 6 of 8 heads named" in whole._repr_html_()
    assert json.dumps(whole.to_dict())


def test_a_described_head_joins_the_run_of_its_settings(model, tmp_path):
    store = tmp_path / "heads.sqlite"
    run = model.label(store=store, layers="1").run_id
    model.head(0, 0).describe(record=True, store=store)
    (summary,) = list_runs(open_database(str(store)))
    assert (summary.run_id, summary.counts.done) == (run, 5)


def test_a_language_model_is_opened_once_for_all_heads(folder, tmp_path, monkeypatch):
    opened = []
    queue = QueueModel([said("Unclear")] * 2)

    def equip(maps, request):
        opened.append(request.describer)
        return lettered(maps, LanguageModelDescriber(queue), tmp_path / "chroma")

    monkeypatch.setattr(face, "equip", equip)
    model = hs.open_model(folder, source="embedding")
    for head in (0, 1):
        assert model.head(0, head).describe(describer="openai:x").status == "unclear"
    assert opened == ["openai:x"]


def test_a_model_in_memory_is_opened_with_its_tokenizer(tmp_path):
    _, held = tiny_model("llama", tmp_path)
    model = hs.open_model(held, tokenizer=tiny_tokenizer(), source="embedding")
    assert (model.n_layers, model.n_heads) == (2, 4)
    assert len(model.head(0, 0).mapping.rows) == 30
    assert "layers" in model._repr_html_()


def test_mistakes_are_errors_of_headscribe(model, folder):
    for wrong, error in (
        (lambda: hs.open_model("no/such/place/at/all"), UnknownModel),
        (lambda: hs.open_model(folder, tokenizer=tiny_tokenizer()), UserMistake),
        (lambda: hs.open_model(folder, source="magic"), UserMistake),
        (lambda: model.head(2, 0), OutOfRange),
        (lambda: model.relations(["magic"]), UserMistake),
        (lambda: model.relations(pairs={"mine": [("a",)]}), BadRelationFile),
        (lambda: model.label(layers="9"), OutOfRange),
    ):
        with pytest.raises(error) as caught:
            wrong()
        assert isinstance(caught.value, hs.HeadscribeError)


def test_tables_are_inert_and_say_what_they_leave_out():
    page = as_html("<b>x</b>", [{"token": "<script>alert(1)</script>", "n": i} for i in range(40)])
    assert "<script>" not in page
    assert "<b>x" not in page
    assert "and 10 more rows" in page


def test_results_are_frozen(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.head(0, 0).mapping.mapping = None


def test_all_names_are_there():
    assert set(hs.__all__) <= set(dir(hs))


def test_attention_of_all_heads_and_of_one(tmp_path):
    model = hs.open_model(wordy_model(tmp_path / "tiny"), device="cpu")
    head = model.head(0, 1)
    assert head.attention.previous == head.attention.profile[1]
    told: list[tuple[int, int, str]] = []
    frame = model.attention(progress=lambda *step: told.append(step))
    shares = ["previous", "self", "first", "duplicate", "induction"]
    assert list(frame.columns) == ["layer", "head", *shares, "reach", "kinds", "said"]
    assert len(frame) == model.n_layers * model.n_heads
    assert frame.previous[1] == head.attention.previous
    assert set(", ".join(frame.kinds).split(", ")) <= set(KINDS)
    assert told[-1][:2] == (model.n_layers, model.n_layers)
    assert model.head(1, 2).attention.layer == 1
    described, left_out = (head.describe(describer="lexical", attention=asked).report for asked in (True, False))
    assert described.mapping.attention == head.attention
    assert left_out.mapping.attention is None
