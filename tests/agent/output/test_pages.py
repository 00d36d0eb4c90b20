"""Pages from templates: tokens inert and visible, Markdown that loads nothing, reports that need no network."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from agent.output.figures.style import INK, PAPER, drawing, figure_bytes
from agent.output.markdown import document, escaped, table, to_html
from agent.output.pages import Picture, environment, report_html
from agent.output.tokens import token_html
from maps_engine.checkpoints.token_spelling import visible
from tests.support.believable import HOSTILE

NAMES = (
    "<script>x</script>",
    "a|b",
    "[x](http://e.org)",
    "![x](http://e.org/p.png)",
    "*x* `y` ~z~",
    "&lt;",
    "a\u202eb",
)


def test_tokens_show_what_cannot_be_seen():
    assert token_html(" a\n\x00\u202e") == (
        '<bdi class="tok"><span class="sp">␣</span>a<span class="esc">⏎</span><span class="esc">␀</span>'
        '<span class="esc">U+202E</span></bdi>'
    )
    assert "empty" in token_html("")
    assert token_html("\u0301") == '<bdi class="tok">◌\u0301</bdi>'
    assert token_html("e\u0301") == '<bdi class="tok">e\u0301</bdi>'
    for bad in HOSTILE:
        shown = str(token_html(bad))
        assert "<script" not in shown
        shown.encode("utf-8")


def test_a_nul_that_the_records_hold_as_a_sign_is_marked_as_one():
    assert '<span class="esc">␀</span>' in token_html("\x00")
    assert token_html("␀") == token_html("\x00")


@given(st.text(max_size=30))
def test_tokens_read_as_in_the_terminal(token):
    text = re.sub(r"<[^>]*>", "", str(token_html(token)))
    if token:
        assert text.replace("&lt;", "").replace("&gt;", "").replace("␣", " ") == re.sub(
            r"<(U\+[0-9A-F]+)>|[<>]", r"\1", visible(token)
        ).replace("␣", " ").replace("&", "&amp;").replace('"', "&#34;").replace("'", "&#39;")


def test_a_name_that_a_template_misses_is_an_error():
    with pytest.raises(UndefinedError):
        environment().get_template("document.html").render(style="", style_hash="", script="", title="t")


def test_values_of_a_template_are_escaped():
    assert "<i>" not in report_html("document.html", title="<i>", body="<i>").replace("&lt;i&gt;", "")


@pytest.mark.parametrize("script", [None, "run.js"])
def test_a_report_allows_its_own_style_and_script_alone(script):
    page = report_html("document.html", title="t", body="b", script=script)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    for part in ("style", "script") if script else ("style",):
        content = re.search(rf"<{part}>(.*?)</{part}>", page, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{part}-src 'sha256-{digest}'" in policy[1]
    assert ("<script" in page) == (script is not None)
    assert not re.search(r"\sstyle=|unsafe-inline|https?://|url\(|@import", page)


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_in_markdown_as_they_are(name):
    plain = visible(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert to_html(escaped(name)) == f"<p>{plain}</p>\n"
    assert f"<td>{plain}</td>" in to_html(table(["a", "b"], [[escaped(name), "1"]]))


@pytest.mark.parametrize("name", NAMES)
def test_markdown_loads_and_runs_nothing_even_unescaped(name):
    html = to_html(f"{name}\n\n[r]: http://e.org\n\n[r] ![r]\n\n<http://e.org>")
    assert not re.search(r"<(a|img|script)\b", html)


def test_a_table_keeps_bars_inside_cells_and_numbers_to_the_right():
    text = table(["a", "b"], [["x|y", "1"]])
    assert text.splitlines()[1:] == ["|---|---:|", "| x\\|y | 1 |"]
    html = to_html(text + "\n\nafter & all")
    assert '<th scope="col" class="num">b</th>' in html
    assert "<td>x|y</td>" in html
    assert '<td class="num">1</td>' in html
    assert html.endswith("<p>after &amp; all</p>\n")
    assert 'class="num"' not in to_html(table(["a", "b"], [["x", "y"]], numbers=False))


def test_a_report_shows_its_own_pictures_with_captions():
    with drawing():
        picture = Picture("one", figure_bytes(Figure()), "What <is> drawn")
    page = document("t", "![x](figures/one.svg)\n\n![x](figures/other.svg)", {"figures/one.svg": picture})
    assert page.count("<img") == 1
    assert f'src="{picture.address}" alt="What &lt;is&gt; drawn"' in page
    assert "<figcaption>What &lt;is&gt; drawn</figcaption>" in page
    assert "<p><figure" not in page


def test_figures_follow_light_and_dark_and_are_the_same_every_time():
    def draw() -> bytes:
        with drawing():
            figure = Figure(figsize=(2, 2))
            axes = figure.add_subplot()
            axes.plot([0, 1], color=INK)
            axes.set_xlabel("x")
            return figure_bytes(figure)

    svg = draw().decode()
    assert svg == draw().decode()
    style, drawn = re.findall(r"<style.*?</style>", svg, re.DOTALL), re.sub(r"<style.*?</style>", "", svg)
    assert any("prefers-color-scheme: dark" in one for one in style)
    assert f"stroke: {INK}" in drawn
    for colour in set(re.findall(r"(?:fill|stroke): (#\w+)", drawn)):
        assert f'[style*="fill: {colour}"]' in svg, f"{colour} does not change with the paper {PAPER}"
