"""Figures, report and files of made-up tables: readable for small and large models, safe for hostile names."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from agent.output.figures.files import (
    file_name,
    operation_heatmap,
    operations_by_layer,
    operations_per_head,
    write_figures,
)
from agent.output.figures.style import plain, score_map, step_of
from agent.output.relation_files import COLUMNS, table_rows, write_csv, write_parquet
from agent.output.relation_report import render_report, score_picture
from maps_engine.errors import FileNotWritten
from maps_engine.scores.head_structure import findings
from maps_engine.scores.result import RelationResult, ScoreSettings
from tests.support.relation_tables import made_up_scores

SIZES = [(30, 9), (1, 1), (80, 64), (12, 96)]


@pytest.fixture(scope="module")
def scores():
    return made_up_scores(n=5)


@pytest.mark.parametrize(("layers", "heads"), SIZES)
def test_heatmaps_keep_a_sensible_size(layers, heads):
    scores = made_up_scores(layers=layers, heads=heads, value_heads=1, n=3)
    figure = operation_heatmap(scores, scores.relations[0], tau=0.15)
    width, height = figure.get_size_inches()
    assert 4 < width < 13
    assert 2.5 < height < 10
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2
    for axes, table in zip(panels, (scores.relations[0].score, scores.relations[0].suppression), strict=True):
        assert axes.images[0].get_clim() == (0, 1)
        best = divmod(int(table.argmax()), heads)
        assert axes.get_title(loc="left").split()[1] == "{}.{}".format(*best)
    # labels lie inside the picture
    figure.canvas.draw()
    inside = figure.bbox
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= inside.x1 + 1, text.get_text()


def test_an_unscored_operation_has_no_heatmap(scores):
    with pytest.raises(ValueError, match="not scored"):
        operation_heatmap(scores, scores.relations[-1], tau=0.15)


def test_overview_grows_with_the_operations():
    few, many = made_up_scores(n=5), made_up_scores(n=60)
    heights = [operations_by_layer(one, findings(one)).get_size_inches()[1] for one in (few, many)]
    assert heights[1] > heights[0] + 5


def test_histogram_says_how_many_do_nothing(scores):
    quiet = replace(scores, relations=tuple(replace(r, score=torch.zeros(30, 9)) for r in scores.scored))
    texts = [text.get_text() for text in operations_per_head(quiet, findings(quiet)).texts]
    assert any("270 implement none" in text for text in texts)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_figures_are_written(scores, form, tmp_path):
    small = replace(scores, relations=scores.relations[:1])
    written = write_figures(small, findings(small), tmp_path, form=form)
    assert [path.suffix for path in written] == [f".{form}"] * 3
    if form == "png":
        assert imread(written[0]).shape[1] > 1000
    else:
        assert "<svg" in written[0].read_text()


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_scores_give_the_same_files(scores, form, tmp_path):
    small = replace(scores, relations=scores.relations[:1])
    first, second = (write_figures(small, findings(small), tmp_path / name, form=form) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_no_scores_no_figures(tmp_path):
    empty = made_up_scores(n=1)
    assert write_figures(empty, findings(empty), tmp_path) == []


def test_the_colour_map_only_darkens():
    colours = score_map()(torch.linspace(0, 1, 256).numpy())[:, :3]
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert tuple(colours[0]) == (1, 1, 1)
    assert (lightness[1:] <= lightness[:-1] + 1e-3).all()


@pytest.mark.parametrize(("size", "room", "step"), [(9, 14, 1), (30, 18, 2), (64, 14, 5), (96, 14, 10), (1, 5, 1)])
def test_ticks_are_round_steps(size, room, step):
    assert step_of(size, room) == step


@given(st.text())
def test_any_name_makes_a_file_name(name):
    assert re.fullmatch(r"[\w-]{1,100}", file_name(name))


def test_titles_hold_no_mathematics():
    assert plain("a$b$\x1b[1m\u202e") == r"a\$b\$·[1m·"
    assert len(plain("x" * 200, 40)) == 40


def result_of(scores):
    return RelationResult(ScoreSettings(), scores)


def test_report_is_self_contained_and_whole(scores):
    page = render_report(result_of(scores), top=3)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "url(" not in page
    assert "@import" not in page
    assert not re.findall(r"https?://", page)
    for one in scores.relations:
        assert one.name in page
    assert "too few pairs (7 of 100)" in page
    assert scores.fingerprint in page
    assert page.count("data:image/png;base64,") == 2 * len(scores.scored)
    assert "prefers-color-scheme: dark" in page


def test_report_escapes_what_models_and_users_name(scores):
    hostile = "<script>alert(1)</script>\u202e\x1b"
    rows = tuple(replace(one, name=f"{hostile}{i}", category=hostile) for i, one in enumerate(scores.relations))
    page = render_report(result_of(replace(scores, model=hostile, relations=rows)), top=3)
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_report_of_nothing_scored():
    assert "too few pairs" in render_report(result_of(made_up_scores(n=1)), top=3)


def test_report_names_the_representation():
    assert "reading embedding." in render_report(result_of(made_up_scores(n=3)), top=2)
    behind = replace(made_up_scores(n=3, source="residual"), lead_in=(" the",))
    page = unescape(render_report(result_of(behind), top=2))
    assert "reading residual behind the start of texts and ' the'." in page
    assert page.count("residual behind") == 2  # of the title, and where the numbers come from


def test_report_stays_small_for_large_models():
    scores = made_up_scores(layers=80, heads=64, value_heads=64, n=4)
    assert len(render_report(result_of(scores), top=3)) < 60_000 + 3 * 40_000


def test_the_picture_is_a_png_of_one_pixel_a_head():
    levels = np.array([[255, 0, 1], [0, 128, 255]], np.uint8)  # the first layer lies at the bottom
    picture = imread(io.BytesIO(score_picture(levels, (13, 110, 160))), format="png")
    assert picture.shape == (2, 3, 4)
    assert (picture[..., 3] * 255).round().tolist() == [[0, 128, 255], [255, 0, 1]]
    assert (picture[..., :3] * 255).round()[0, 0].tolist() == [13, 110, 160]


def test_csv_has_a_row_for_every_head(scores, tmp_path):
    write_csv(replace(scores, model="=model"), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 4 * 270 + 1
    assert rows[0]["model"] == "'=model"
    row = rows[9 * 7 + 4]
    assert (row["layer"], row["head"]) == ("7", "4")
    assert float(row["score"]) == pytest.approx(float(scores.relations[0].score[7, 4]), abs=1e-6)
    assert float(row["p"]) == pytest.approx(float(scores.relations[0].promoting.p[7, 4]))
    assert (rows[-1]["layer"], rows[-1]["verdict"]) == ("", "too few pairs (7 of 100)")


def test_every_row_names_the_representation_once():
    behind = replace(made_up_scores(n=2, source="residual"), lead_in=("", " the"))
    rows = list(table_rows(behind))
    expected = "residual behind the start of texts or the start of texts and ' the'"
    assert [row["source"] for row in rows] == [expected] * (1 + 270)
    assert [name for name in COLUMNS if "source" in name] == ["source"]


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_refusals_of_the_system_are_one_line(scores, tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotWritten, match=r"the file cannot be written: got .*(Not a directory|File exists)"):
        write(scores, tmp_path / "file" / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
