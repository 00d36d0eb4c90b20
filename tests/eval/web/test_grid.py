"""The grid of a model: heads of two categories, how many operations a head has, and the most common ones."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from eval.web.browser.browse_data import HeadLine, ModelGrid, model_grid
from eval.web.browser.grid import Grid, make_grid, metrics
from eval.web.settings import WebSettings
from maps_engine.qk.kinds import READINGS
from maps_engine.results import HeadAttention
from tests.support.believable import Believable

PAGE = "/believable-360m"
CAPITALS, PLURALS = "country to capital", "singular to plural"
PRONOUNS = 'names of people to "his", "he"'  # a class of words to words


@pytest.fixture
def data(filled: tuple[Engine, Believable]) -> ModelGrid:
    engine, facts = filled
    return model_grid(engine, facts.slug)


def line(head: int, *operations: str, status: str = "ok", category: str | None = "knowledge") -> HeadLine:
    """A head of layer 0; the first operation is the recorded one."""
    recorded = operations[0] if operations else ""
    return HeadLine(0, head, status, recorded, category, 0.5, None, None, 1.0, operations)


def grid_of(data: ModelGrid, metric: str, *lines: HeadLine) -> Grid:
    return make_grid(replace(data, heads=lines), metric)


def looks(grid: Grid) -> list[tuple[str, str]]:
    """(letters, words) of the cells of layer 0."""
    ((_, cells),) = grid.rows
    return [("".join(face.letter for face in cell.look.faces), cell.look.words) for cell in cells]


def legend(grid: Grid) -> dict[str, str]:
    return {entry.face.letter: entry.text for entry in grid.legend}


def test_a_head_of_several_categories_shows_the_recorded_one_and_the_next(data: ModelGrid) -> None:
    lines = (
        line(0, CAPITALS),
        line(1, CAPITALS, PLURALS),
        line(2, PLURALS, CAPITALS, category="linguistic"),
        line(3, CAPITALS, "city to country", PRONOUNS, PLURALS),
        line(4, "free words of a model", CAPITALS, category=None),
        line(5, status="unclear", category=None),
        line(6, status="none", category=None),
    )
    grid = grid_of(data, "category", *lines)
    assert looks(grid) == [
        ("K", "knowledge"),
        ("KL", "knowledge and linguistic"),
        ("LK", "linguistic and knowledge"),
        ("KW", "knowledge, word fields and linguistic"),
        ("OK", "other and knowledge"),
        ("·", "unclear"),
        ("", "no result yet"),
    ]
    assert legend(grid) == {
        "K": "knowledge (5)",
        "L": "linguistic (3)",
        "W": "word fields (1)",
        "O": "other (1)",
        "·": "unclear",
        "!": "failed",
    }
    faces = [face for _, cells in grid.rows for cell in cells for face in cell.look.faces]
    assert len({(face.look, face.letter) for face in faces}) == len({face.look for face in faces}), "a colour, a letter"


def test_names_as_search_has_them_have_the_category_of_the_name(data: ModelGrid) -> None:
    for name in (
        CAPITALS,
        PLURALS,
        PRONOUNS,
        "English to French",
        "word to another script",
        "names of rivers, loosely",
    ):
        both = grid_of(data, "category", line(0, "copying", name), line(1, "copying", name.casefold()))
        first, second = looks(both)
        assert first == second, name


def test_the_number_of_operations_is_a_whole_number_with_its_own_entry(data: ModelGrid) -> None:
    lines = (
        line(0, CAPITALS, PLURALS, PRONOUNS),
        line(1, CAPITALS),
        line(2, PLURALS),
        line(3, status="unclear"),
        line(4, status="failed"),
    )
    grid = grid_of(data, "operations", *lines)
    assert grid.title == "operations that a test supports"
    assert looks(grid) == [("3", "3"), ("1", "1"), ("1", "1"), ("0", "0"), ("", "no value")]
    assert legend(grid) == {"0": "1 head", "1": "2 heads", "3": "1 head", "": "no value"}
    assert len({entry.face.look for entry in grid.legend}) == len(grid.legend)
    many = grid_of(data, "operations", *(line(n, *(f"thing {i}" for i in range(n))) for n in range(15)))
    assert [letters for letters, _ in looks(many)] == [str(n) for n in range(15)]
    assert "operations" in metrics(data)


def cell(page: str, layer: int, head: int) -> str:
    """The link of a head in the grid."""
    found = re.search(rf'<a class="cell[^>]*href="{PAGE}/head/{layer}/{head}"[^>]*>.*?</a>', page)
    assert found is not None
    return html.unescape(found[0])


def test_a_cell_of_two_categories_has_both_letters_and_says_both(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    page = client.get(PAGE).text
    both = cell(page, 7, 0)  # an antonym, and classes of words
    assert re.findall(r'<span class="side (k\d)">(\w)</span>', both) == [("k2", "L"), ("k4", "W")]
    assert 'title="L7 H0: linguistic and word fields – antonym"' in both
    assert 'aria-label="Layer 7 head 0, linguistic and word fields, antonym"' in both
    described = page.count('class="cell sides"')
    assert f"<span>word fields ({described})</span>" in page
    table = client.get(f"{PAGE}?view=table").text
    assert table.count("and word fields</td>") == described > 10
    assert '<td class="nowrap">linguistic and word fields</td><td>antonym</td>' in table


def test_the_page_of_operations_shows_how_many(site: tuple[WebSettings, TestClient]) -> None:
    page = site[1].get(f"{PAGE}?metric=operations").text
    found = cell(page, 7, 0)
    assert 'title="L7 H0: 2 – antonym"' in found
    assert found.endswith(">2</a>")
    described = site[1].get(PAGE).text.count('class="cell sides"')
    assert f'aria-hidden="true">2</span><span>{described} heads</span>' in page
    table = site[1].get(f"{PAGE}?metric=operations&view=table").text
    assert len(re.findall(r'<td class="nowrap">2</td><td>\w', table)) == described


def test_common_operations_count_all_that_heads_do_and_lead_to_them(site: tuple[WebSettings, TestClient]) -> None:
    settings, client = site
    with settings.engine.begin() as connection:  # the recorded one keeps its case
        connection.execute(text("UPDATE descriptions SET operation = 'English to French' WHERE operation = 'antonym'"))
        name = "REPLACE(operation_names, 'antonym', 'english to french')"
        connection.execute(text(f"UPDATE descriptions SET operation_names = {name}"))
    page = client.get(PAGE).text
    common = page[page.index("Most common operations") :]
    entries = re.findall(r'<li><a href="([^"]+)">([^<]+)</a><span class="dim num">(\d+)</span>', common)
    counts = {html.unescape(shown): (html.unescape(link), int(n)) for link, shown, n in entries}
    described = page.count('class="cell sides"')
    assert counts['plural nouns to "are", "were"'][1] == described
    assert sum(n for _, n in counts.values()) == 2 * described
    assert "English to French" in counts
    assert "english to french" not in counts
    for link, n in counts.values():
        found = client.get(link).text
        assert f"<h2>{n} head" in found
        assert found.count("plural nouns to") >= n


def test_the_api_lists_the_operations_of_each_head(site: tuple[WebSettings, TestClient]) -> None:
    heads = site[1].get("/api/v1/models/believable-360m/heads").json()["heads"]
    assert [one["operations"] for one in heads if one["status"] != "ok"] == [[]] * sum(
        h["status"] != "ok" for h in heads
    )
    for one in heads:
        if one["status"] == "ok":
            assert one["operations"] == [one["operation"], 'plural nouns to "are", "were"']


def attending(head: int, **shares: float) -> HeadLine:
    """A head of layer 0 without a description, whose attention is so."""
    values = dict.fromkeys(READINGS.values(), 0.0) | shares
    found = HeadAttention(layer=0, head=head, **values, profile=(0.01,) * 63)
    return replace(line(head, status="unclear"), attention=found)


def test_kinds_of_attention_have_letters_and_words(data: ModelGrid) -> None:
    lines = (
        attending(0, previous=0.6),
        attending(1, duplicate=0.5, induction=0.4),
        attending(2, first=0.9),
        attending(3),
        line(4, CAPITALS),
    )
    grid = grid_of(data, "attention:kinds", *lines)
    assert looks(grid) == [
        ("P", "previous token"),
        ("DI", "duplicate token, induction"),
        ("F", "sink"),
        ("B", "broad"),
        ("", "no value"),
    ]
    assert legend(grid)["F"] == "sink: the first token (1)"
    everything = make_grid(data, "attention:kinds").legend
    assert len({face.look for face in (entry.face for entry in everything)}) == len(everything)


def test_readings_of_attention_are_shown_as_numbers(data: ModelGrid) -> None:
    grid = grid_of(data, "attention:first", attending(0, first=0.25), attending(1, first=1.0), line(2, CAPITALS))
    assert looks(grid) == [(".25", "0.25"), ("1", "1.00"), ("", "no value")]
    offered = metrics(data)
    assert [name for name in offered if name.startswith("attention:")] == [
        "attention:kinds",
        *(f"attention:{name}" for name in READINGS),
    ]
    without = replace(data, heads=(line(0, CAPITALS),))
    assert not [name for name in metrics(without) if name.startswith("attention:")]


def test_pages_of_attention(site: tuple[WebSettings, TestClient]) -> None:
    client = site[1]
    assert "previous token" in cell(client.get(f"{PAGE}?metric=attention:kinds").text, 7, 0)
    assert 'title="L7 H1: 0.61' in cell(client.get(f"{PAGE}?metric=attention:induction").text, 7, 1)
    assert '<td class="nowrap">0.61</td>' in client.get(f"{PAGE}?metric=attention:previous&view=table").text
