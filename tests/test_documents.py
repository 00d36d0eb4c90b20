"""References resolve: to documents and their headings, to modules, to files, and numbers in docs/method.md to the code.

Strings and comments of all modules are read, and every document.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec

import pytest

from agent.words.forms import FORMS
from prompts import load_prompts
from tests.support.prose import DOCUMENTS, PACKAGES, ROOT, Passage, anchor, headings, is_known, literal, passages

OURS = "|".join(PACKAGES)
THIS = ("tests/test_documents.py", "tests/support/prose.py")  # they spell the patterns that they look for
METHOD = ROOT / "docs/method.md"
SUFFIXES = {"json", "py", "safetensors"}  # `x.json` is a file, not a module's part
Broken = Iterator[tuple[Passage, str]]


def found(pattern: str) -> Iterator[tuple[Passage, re.Match[str]]]:
    """Every match in every passage but those of this test."""
    whole = re.compile(pattern)
    return ((one, m) for one in passages() if one.path not in THIS for m in whole.finditer(one.text))


def documents_outside_the_repository() -> Broken:
    """Names of working papers that a reader of the repository does not have."""
    names = "METHOD|DESIGN|RATING|DATA|HABITS|DEPENDENCIES"
    return ((one, match[0]) for one, match in found(rf"(?<![\w-])(?:{names})(?![\w-])"))


def documents_that_are_not_there() -> Broken:
    """`docs/…` without such a file."""
    named = ((one, match[0]) for one, match in found(r"(?<![\w/])docs/[\w./-]*\w"))
    return ((one, name) for one, name in named if not (ROOT / name).exists())


def headings_that_are_not_there() -> Broken:
    """`docs/method.md, "Heading"`, and "Another" after it, without such a heading."""
    for one, match in found(r'(docs/\w+\.md)`?, ((?:"[^"]+"(?:, | and )?)+)'):
        for heading in re.findall(r'"([^"]+)"', match[2]):
            if heading not in headings(ROOT / match[1]):
                yield one, heading


def modules_that_are_not_there() -> Broken:
    """`agent.runs.store.open_run` without such a module, or without such a name in it."""
    named = ((one, match[1]) for one, match in found(rf"(?<![\w./-])((?:{OURS})(?:\.\w+)+)(?![\w/-])"))
    return ((one, name) for one, name in named if not is_known(name) and not (ROOT / name).exists())


def short_names_of_modules_that_are_not_there() -> Broken:
    """`store.open_run`, or "see `store`", in a module that has no such neighbour and no other use for `store`."""
    for one, match in found(r"(?<!`)(see )?`([a-z]\w*)((?:\.\w+)*)`(?!`)"):
        path, see, name, rest = ROOT / one.path, *match.groups()
        if path.suffix != ".py" or not (see or rest) or rest[1:] in SUFFIXES or name in PACKAGES or _is_library(name):
            continue
        source = path.read_text("utf-8")
        in_code = len(re.findall(rf"\b{name}\b", source)) > len(re.findall(rf"`{name}\b", source))
        if not in_code and not (path.parent / f"{name}.py").exists():
            yield one, f"`{name}{rest}`"


@cache
def _is_library(name: str) -> bool:
    return name not in sys.stdlib_module_names and find_spec(name) is not None


def files_that_are_not_there() -> Broken:
    """`tests/…/x.py` without such a file, wherever it is named; in documents folders and bare file names too."""
    for one, match in found(rf"(?<![\w./-])(?:{OURS})/[\w./-]*\w\.\w+"):
        if not (ROOT / match[0]).exists():
            yield one, match[0]
    for one, match in found(rf"`((?:{OURS})/[^`\s…*]*/|\w+\.(?:py|css|j2))`"):
        if one.path.endswith(".md") and not (ROOT / match[1]).exists() and not _anywhere(match[1]):
            yield one, match[1]


@cache
def _anywhere(name: str) -> bool:
    return "/" not in name and any(True for package in PACKAGES for _ in (ROOT / package).rglob(name))


def links_that_lead_nowhere() -> Broken:
    """Markdown links within the repository, to files and to headings."""
    for one, match in found(r"\]\(([^)\s]+)\)"):
        target, _, part = match[1].partition("#")
        if not one.path.endswith(".md") or "://" in target:
            continue
        here = ROOT / one.path
        place = here.parent / target if target else here
        if not place.exists() or (part and part not in map(anchor, headings(place))):
            yield one, match[1]


CHECKS: tuple[Callable[[], Broken], ...] = (
    documents_outside_the_repository,
    documents_that_are_not_there,
    headings_that_are_not_there,
    modules_that_are_not_there,
    short_names_of_modules_that_are_not_there,
    files_that_are_not_there,
    links_that_lead_nowhere,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_named(check: Callable[[], Broken]) -> None:
    assert [f"{one}: {what}" for one, what in check()] == []


def test_references_are_found_at_all():
    assert sum(1 for _ in found(r'docs/\w+\.md, "')) > 5
    assert sum(1 for _ in found(rf"`(?:{OURS})\.\w+")) > 50
    assert sum(1 for _ in found(r"\]\([^)]+\)")) > 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_heading_of_a_document_stands_there_twice(document):
    assert len(set(headings(document))) == len(headings(document))


def test_commands_are_entry_points_of_modules_that_are_there():
    scripts = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.scripts]")[1].split("\n[")[0]
    named = [f"{module}.{name}" for module, name in re.findall(r'= "([\w.]+):(\w+)"', scripts)]
    assert named
    assert [name for name in named if not is_known(name)] == []


def test_numbers_of_the_method_are_those_of_the_code():
    """A number before (`module.NAME`) in docs/method.md is the one that NAME is written with."""
    text = " ".join(METHOD.read_text("utf-8").split())
    named = re.findall(rf"([\d.,]+)( %)? \(`((?:{OURS})(?:\.\w+)+)`\)", text)
    assert len(named) > 20
    for said, percent, name in named:
        value = float(said.replace(",", "")) / (100 if percent else 1)
        assert literal(name) == pytest.approx(value), f"{name} is {literal(name)}, docs/method.md says {said}{percent}"


def test_counts_of_the_method_are_those_of_the_code():
    text = " ".join(METHOD.read_text("utf-8").split())
    assert f"{len(FORMS)} operations on spelling" in text
    assert f"{len(load_prompts().field_labels)} labelled word lists" in text


def test_thresholds_of_the_method_are_those_of_the_calibration():
    shipped = json.loads((ROOT / "agent/describers/calibration.json").read_text("utf-8"))["thresholds"]
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", METHOD.read_text("utf-8"), flags=re.M)
    assert {name: float(value) for name, value in rows} == shipped
