"""A served study and raters on it, for the tests in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from sqlalchemy import Engine, text

from eval.rating.people import invite
from tests.support.believable import Believable
from tests.support.eval.browser import Watched, chromium, join, open_page
from tests.support.eval.studies import launched_from_run
from tests.support.eval.web_server import served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


class Site:
    """A served copy of the believable database with one study."""

    def __init__(self, base: str, engine: Engine, facts: Believable) -> None:
        self.base, self.engine, self.facts = base, engine, facts

    def study(self, **settings: object) -> int:
        chosen = {"n_heads": 6, "practice": 0, "attention": 0, "control_share": 0.0} | settings
        k = int(str(chosen.pop("k", 1)))
        return launched_from_run(self.engine, self.facts.run_id, k=k, **chosen)

    def rater(self, browser: Browser, study: int, **options: object) -> tuple[Watched, str, str]:
        """(page on its first item, link token, resume code)."""
        _, token = invite(self.engine, study_id=study)
        watched = open_page(browser, self.base, **options)  # type: ignore[arg-type]
        return watched, token, join(watched, token)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]


@pytest.fixture
def site(filled: tuple[Engine, Believable]) -> Iterator[Site]:
    engine, facts = filled
    with served(str(engine.url.database)) as base:
        yield Site(base, engine, facts)
