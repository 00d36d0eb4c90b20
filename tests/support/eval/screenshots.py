"""Pictures of the web app over the believable database: `python -m tests.support.eval.screenshots FOLDER`.

Rating page, lead pages, head browser and head page, each light, dark and at 390 px.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from eval.rating.people import invite
from eval.rating.ratings import Answer
from eval.rating.slots import Screen
from eval.rating.store import open_studies
from tests.support.believable import fill_database
from tests.support.eval.browser import answer, chromium, join, open_page
from tests.support.eval.studies import items_of, launched_from_run, rater, work
from tests.support.eval.web_server import served

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "390px": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
PAGES = {
    "browser": "/believable-360m",
    "percentile": "/believable-360m?metric=percentile",
    "relation": "/believable-360m?metric=relation:antonym",
    "head": "/believable-360m/head/28/3",
    "search": "/search?q=Par",
    "compare": "/compare?a=believable-360m:29.1&b=believable-360m:28.3",
    "lead": "/lead/studies/1",
    "new": "/lead/new",
    "agreement": "/lead/studies/1/agreement",
    "disagreements": "/lead/studies/1/disagreements",
}


def _fill(database: str) -> tuple[object, int]:
    engine = open_studies(database)
    facts = fill_database(engine)
    study = launched_from_run(engine, facts.run_id, k=3, n_heads=60)
    kinds = {public: item.kind for public, item in items_of(engine, study).items()}
    rng = random.Random(3)

    def rule(screen: Screen) -> Answer:
        likely = 0.15 if kinds[screen.public_id] == "control" else 0.82
        said = "yes" if rng.random() < likely else rng.choice(["partly", "no", "no", "cannot"])
        note = "the last rows do not fit" if rng.random() < 0.08 else ""
        return Answer("yes" if rng.random() < 0.85 else "no", said, note)

    for _ in range(3):
        work(engine, rater(engine, study), rule, 64)
    return engine, study


def main() -> None:
    """Write the pictures."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        database = str(Path(folder) / "records.sqlite")
        engine, study = _fill(database)
        with served(database) as base:
            for look, options in LOOKS.items():
                watched = open_page(browser, base, **options)
                for name, path in PAGES.items():
                    watched.page.goto(path)
                    _shoot(watched.page, out / f"{name}-{look}.png")
                own = open_page(browser, base, **options)
                join(own, invite(engine, study_id=study)[1])  # type: ignore[arg-type]
                for _ in range(6):
                    answer(own.page)
                _shoot(own.page, out / f"question-{look}.png")
                answer(own.page, plausible="2", save=False)
                own.page.wait_for_timeout(300)
                _shoot(own.page, out / f"rating-{look}.png")


def _shoot(page: Page, path: Path) -> None:
    page.screenshot(path=path, caret="initial")


if __name__ == "__main__":
    main()
