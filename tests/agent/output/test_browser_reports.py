"""Reports in a real browser without a network: nothing asked for, nothing refused, hostile names inert, no overflow.

The run's report has tests of its own; here are the relations' and that of any Markdown with figures and wide tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

playwright_api = pytest.importorskip("playwright.sync_api")

from agent.output.figures.style import drawing, figure_bytes  # noqa: E402
from agent.output.markdown import document, escaped, table  # noqa: E402
from agent.output.pages import Picture  # noqa: E402
from agent.output.relation_report import render_report  # noqa: E402
from maps_engine.scores.result import RelationResult, ScoreSettings  # noqa: E402
from tests.support.eval.browser import axe_findings, chromium  # noqa: E402
from tests.support.relation_tables import made_up_scores  # noqa: E402

pytestmark = pytest.mark.browser
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u202e" + "x" * 60
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


def relations() -> str:
    scores = made_up_scores(n=6)
    rows = (replace(scores.relations[0], name=HOSTILE, description=HOSTILE), *scores.relations[1:])
    return render_report(RelationResult(ScoreSettings(), replace(scores, model=HOSTILE, relations=rows)), top=3)


def a_document() -> str:
    with drawing():
        figure = Figure(figsize=(14, 2))
        figure.add_subplot().plot([0, 1])
        picture = Picture("wide", figure_bytes(figure), "A wide figure")
    cells = [[escaped(HOSTILE), *[f"0.{i} [0.1, 0.9]" for i in range(11)]]]
    text = f"# {escaped(HOSTILE)}\n\n{HOSTILE}\n\n![x](wide.svg)\n\n{table(['name', *'abcdefghijk'], cells)}\n"
    return document(HOSTILE, text, {"wide.svg": picture})


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {"relations": relations(), "document": a_document()}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as found:
        yield found


@pytest.fixture(params=[(name, *view) for name in ("relations", "document") for view in VIEWS], ids=str)
def page(request, browser, reports):
    name, width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
    made = context.new_page()
    problems: list[str] = []
    asked: list[str] = []
    made.on("console", lambda message: problems.append(message.text))
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("request", lambda one: asked.append(one.url))
    made.goto(reports[name].as_uri())
    made.wait_for_load_state("load")
    yield made
    assert problems == []
    assert [url for url in asked if not url.startswith("data:")] == [reports[name].as_uri()]
    assert made.evaluate("window.hacked") is None
    context.close()


def test_reports_fit_the_screen_and_their_pictures_load(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    for summary in page.locator("summary").all()[:2]:
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert "<script>window.hacked=1</script>" in page.locator("body").inner_text()
    assert page.locator("main img[onerror], main script").count() == 0


def test_axe_finds_nothing(page):
    for summary in page.locator("summary").all()[:2]:
        summary.click()
    assert axe_findings(page) == []


@pytest.mark.parametrize("view", VIEWS[:2], ids=str)
def test_figures_have_the_paper_of_the_page(browser, reports, view):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=view[1], offline=True)
    page = context.new_page()
    page.goto(reports["document"].as_uri())
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    colours = page.evaluate(
        """() => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
          const brush = canvas.getContext("2d");
          brush.drawImage(document.images[0], 0, 0, 4, 4, 0, 0, 1, 1);
          const [r, g, b] = brush.getImageData(0, 0, 1, 1).data;
          return [`rgb(${r}, ${g}, ${b})`, getComputedStyle(document.querySelector(".card")).backgroundColor];
        }"""
    )
    assert colours[0] == colours[1]
    context.close()


def test_operations_are_found_by_name_and_heads_read_out(browser, reports):
    page = browser.new_page()
    page.goto(reports["relations"].as_uri())
    assert page.text_content("#count") == "5 of 5"
    page.fill("#find", "zzz")
    assert page.text_content("#count") == "0 of 5"
    assert page.locator("#none").is_visible()
    page.fill("#find", "")
    page.locator("summary").nth(1).click()
    page.locator(".heat image").nth(2).hover()
    assert "promotes" in page.locator("details[open] .readout").inner_text()
    page.close()
