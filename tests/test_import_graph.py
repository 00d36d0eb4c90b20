"""Who may import whom: the order of rooms, written down here once and held for every import of the source.

All imports count, also those inside functions and under TYPE_CHECKING: a circle of types is a circle for the reader.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("prompts", "maps_engine", "agent", "eval")

# The contract. A room is a module or package directly below one of PACKAGES. It may import the rooms of the lines above
# its own, and nothing of its own line or below but itself.
ORDER: tuple[tuple[str, ...], ...] = (
    ("prompts",),
    ("maps_engine.errors", "maps_engine.finite"),
    ("maps_engine.files",),
    ("maps_engine.results", "maps_engine.model", "maps_engine.folders"),
    ("maps_engine.checkpoints",),
    ("maps_engine.ordinary_words", "maps_engine.undertrained", "maps_engine.null_heads"),
    ("maps_engine.ov",),
    ("maps_engine.relations", "maps_engine.qk"),
    ("maps_engine.fitting",),
    ("maps_engine.parts",),
    ("maps_engine.engine",),
    ("maps_engine.scores",),
    ("agent.errors", "agent.quiet"),
    ("agent.words", "agent.llm"),
    ("agent.results",),
    ("agent.operations", "agent.describers"),
    ("agent.checks",),
    ("agent.runs",),
    ("agent.pipeline",),
    ("agent.output",),
    ("agent.face", "agent.commands"),
    ("eval.errors",),
    ("eval.results_folder",),
    ("eval.statistics",),
    ("eval.judges",),
    ("eval.rating",),
    ("eval.faithfulness",),
    ("eval.scoring",),
    ("eval.web",),
    ("eval.commands",),
    ("headscribe",),
)

# Packages that import nothing of the ones named, whatever the order of rooms says.
NEVER = {
    "prompts": ("maps_engine", "agent", "eval", "headscribe"),
    "agent": ("eval", "headscribe"),
    "maps_engine": (
        *("agent", "eval", "prompts", "headscribe"),
        *("langchain", "langchain_core", "langchain_openai", "langgraph", "openai", "chromadb"),
        *("sqlalchemy", "alembic", "fastapi", "typer", "rich", "jinja2", "markupsafe", "matplotlib", "pandas"),
    ),
}

MOST_MODULES = 12  # of a folder, its __init__ not counted


@cache
def modules() -> dict[str, Path]:
    """Every module and package of the source, by its dotted name."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    files += [path for path in (ROOT / "headscribe.py",) if path.exists()]
    names = (path.relative_to(ROOT).with_suffix("").parts for path in files)
    return {
        ".".join(parts[:-1] if parts[-1] == "__init__" else parts): path
        for parts, path in zip(names, files, strict=True)
    }


@cache
def imports(name: str) -> frozenset[str]:
    """What a module imports, dotted; a name taken from a package of ours is resolved to its module."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & modules().keys()) or {str(node.module)}
    return frozenset(found)


def own_imports(name: str) -> Iterator[str]:
    return (other for other in imports(name) if other in modules())


def room(name: str) -> str:
    return name if name.startswith("prompts") else ".".join(name.split(".")[:2])


def circles(graph: dict[str, set[str]]) -> list[frozenset[str]]:
    """Groups of nodes that reach each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {node: reached(node) for node in graph}
    groups = (frozenset(other for other in reach[node] if node in reach[other]) for node in graph)
    return sorted({group for group in groups if group}, key=sorted)


def test_the_search_for_circles_finds_them():
    chain = {"a": {"b"}, "b": {"c"}, "c": set()}
    assert circles(chain) == []
    assert circles(chain | {"c": {"a"}, "d": {"a"}}) == [frozenset("abc")]
    assert circles({"a": {"a"}}) == [frozenset("a")]


def test_imports_in_functions_and_for_types_are_seen():
    seen = set(own_imports("agent.commands.label_heads"))
    assert {"agent.pipeline.request", "agent.output.console"} <= seen


def test_no_circle_between_modules():
    graph = {name: set(own_imports(name)) for name in modules()}
    assert circles(graph) == []


def test_every_room_has_its_place_in_the_order():
    counted = Counter(name for line in ORDER for name in line)
    assert [name for name, n in counted.items() if n > 1] == []
    found = {room(name) for name in modules()} - {"maps_engine", "agent", "eval"}
    assert found - counted.keys() == set(), "give the room a line in ORDER"
    assert counted.keys() - found - {"headscribe"} == set(), "a line of ORDER names no room"


def test_arrows_point_downward_only():
    place = {name: i for i, line in enumerate(ORDER) for name in line}
    upward = [
        f"{name} imports {other}"
        for name in modules()
        for other in own_imports(name)
        if room(name) != room(other) and place[room(other)] >= place[room(name)]
    ]
    assert upward == []


@pytest.mark.parametrize("package", NEVER)
def test_what_a_package_never_imports(package):
    names = [name for name in modules() if name.split(".")[0] == package]
    assert names
    found = [f"{name} imports {one}" for name in names for one in imports(name) if one.split(".")[0] in NEVER[package]]
    assert found == []


def test_no_folder_has_more_modules_than_a_reader_takes_in():
    counts = Counter(path.parent.relative_to(ROOT) for path in modules().values() if path.name != "__init__.py")
    assert {str(folder): n for folder, n in counts.items() if n > MOST_MODULES} == {}


def packages() -> list[str]:
    return sorted(name for name, path in modules().items() if path.name == "__init__.py")


@pytest.mark.parametrize("package", packages())
def test_every_package_says_what_lives_there_and_what_it_may_import(package):
    said = ast.get_docstring(ast.parse(modules()[package].read_text("utf-8"))) or ""
    what, _, may = said.partition("May import ")
    assert len(what.split()) >= 5, "say what lives here"
    assert may, "say what it may import, after the words `May import`"
    named = re.findall(r"`([\w.]+)`", may)
    parts = [name for name in modules() if name == package or name.startswith(f"{package}.")]
    others = {other for name in parts for other in own_imports(name)} - set(parts)
    covered = [other for other in others if any(other == one or other.startswith(f"{one}.") for one in named)]
    assert sorted(others - set(covered)) == []


def test_packages_hold_no_code():
    for package in packages():
        if package != "prompts":
            assert len(ast.parse(modules()[package].read_text("utf-8")).body) == 1, package
