"""The tour in docs/tour.ipynb runs from top to bottom on the built-in model, and shows what its reader is promised."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"


def shown(cells) -> list[str]:
    """The text of each cell's result, "" where it has none."""
    return ["".join(o.get("data", {}).get("text/html", "") for o in cell.get("outputs", [])) for cell in cells]


@pytest.mark.model
def test_the_tour_runs_and_shows_its_tables():
    tour = nbformat.read(TOUR, as_version=4)
    NotebookClient(tour, timeout=600, kernel_name="python3").execute()
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    text = "\n".join(shown(cells))
    for promised in ("Head 26.2 of smollm2-135m", "pronoun to another form", "supported", "noun-to-pronoun",
                     "animal to young", "heads named", "what followed the same word"):  # fmt: skip
        assert promised in text


def test_the_tour_is_kept_with_its_results():
    """A reader sees tables without running anything; results that are missing or errors would show here."""
    tour = nbformat.read(TOUR, as_version=4)
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
    assert "Head 26.2" in "\n".join(shown(cells))
