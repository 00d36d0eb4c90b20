"""Which heads feed which, from Python: a table, a figure, and the edges of one head, on a tiny model."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import headscribe as hs
from agent.face.composition import COLUMNS
from maps_engine.errors import UnsupportedModel
from maps_engine.qk.composition import KINDS, read_composition
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> hs.Model:
    folder = tiny_model("llama", tmp_path_factory.mktemp("face") / "tiny", num_hidden_layers=3)[0]
    return hs.open_model(folder, source="embedding", device="cpu")


def arrows(figure: Figure) -> list[FancyArrowPatch]:
    return [one for one in figure.axes[0].patches if isinstance(one, FancyArrowPatch)]


def test_a_table_of_edges_read_once(model):
    told = []
    table = model.composition(progress=lambda done, total, what: told.append((done, total, what)))
    assert told == [(1, 2, "layer 1"), (2, 2, "layer 2")]
    assert model.composition(progress=lambda *step: told.append(step)) is table
    assert len(told) == 2
    frame = table.to_pandas()
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 3 * 4 * (4 + 8)
    assert (frame.from_layer < frame.layer).all()
    edge = read_composition(model.maps.checkpoint).of_head(2, 1)[0]
    row = frame[(frame.layer == 2) & (frame["head"] == 1)].iloc[0]
    assert (row.kind, (row.from_layer, row.from_head), row.strength) == (edge.kind, edge.source, edge.strength)
    assert json.loads(json.dumps(table.to_dict()))["edges"][0]["kind"] == "K"


def test_what_one_head_reads_from(model):
    edges = model.head(2, 3).reads_from
    assert [one.kind for one in edges] == [kind for kind in KINDS for _ in range(3)]
    assert edges == model.composition().of_head(2, 3)
    assert model.head(0, 1).reads_from == ()


def test_a_figure_of_the_strongest_edges_with_labels(model):
    strongest = model.composition().found.strongest(5)
    labels = {strongest[0].source: "copies $x$", (9, 9): "is not there"}
    figure = model.composition().figure(5, labels=labels)
    assert len(arrows(figure)) == 5
    assert [one.get_text() for one in figure.axes[0].texts] == [r"copies \$x\$"]  # as it stands, no mathematics
    assert "the 5 strongest edges" in figure.texts[1].get_text()


def test_a_notebook_shows_the_figure_and_the_table(model):
    page = model.composition()._repr_html_()
    assert 'src="data:image/png;base64,' in page
    assert "<th>from_layer</th>" in page


def test_one_layer_gives_empty_results(tmp_path):
    folder = tiny_model("llama", tmp_path / "tiny", num_hidden_layers=1)[0]
    model = hs.open_model(folder, source="embedding", device="cpu")
    table = model.composition()
    assert tuple(table.to_pandas().columns) == COLUMNS
    assert len(table.to_pandas()) == 0
    assert "the 0 strongest edges" in table.figure().texts[1].get_text()
    assert "from_layer" in table._repr_html_()
    assert model.head(0, 0).reads_from == ()


def test_what_cannot_be_read_is_said(tmp_path):
    folder = tiny_model("opt-350m", tmp_path / "tiny")[0]
    with pytest.raises(UnsupportedModel, match="norms stand in the residual stream"):
        hs.open_model(folder, source="embedding", device="cpu").composition()
