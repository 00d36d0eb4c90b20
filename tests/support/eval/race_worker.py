"""One process that rates until nothing is left; imported by spawned processes, so kept light."""

from __future__ import annotations

from eval.rating.store import open_studies
from tests.support.eval.studies import work


def rate_everything(url: str, person: int) -> None:
    """Rate every item that this person can get."""
    work(open_studies(url), person)
