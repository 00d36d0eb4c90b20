"""The prose of the repository and what it can refer to: strings and comments, headings of documents, modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("agent", "eval", "maps_engine", "prompts", "tests")
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PAGES = {".html", ".j2", ".css", ".txt"}  # texts of ours inside the packages that are no modules


@dataclass(frozen=True)
class Passage:
    """One string or one run of comments, white space collapsed; `path` is relative to the repository."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@cache
def modules() -> tuple[Path, ...]:
    """Every Python file of the packages, and those at the top."""
    found = [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
    return tuple(sorted([*found, *ROOT.glob("*.py")]))


@cache
def passages() -> tuple[Passage, ...]:
    """Strings and comments of every module, documents line by line, and the other texts inside the packages."""
    found = [one for path in modules() for one in _of_module(path)]
    others = [p for name in PACKAGES for p in (ROOT / name).rglob("*") if p.suffix in PAGES and "LICENSE" not in p.name]
    for path in [*DOCUMENTS, *others, ROOT / "Makefile", *(p for p in (ROOT / ".ci").iterdir() if p.is_file())]:
        lines = path.read_text("utf-8").splitlines()
        found += [Passage(_name(path), number, line) for number, line in enumerate(lines, 1)]
    return tuple(found)


def _of_module(path: Path) -> Iterator[Passage]:
    """Its strings, and its comments (what stands behind # within a string comes twice)."""
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield _passage(path, node.lineno, node.value)
    comment: list[str] = []
    for number, line in enumerate([*path.read_text("utf-8").splitlines(), ""], 1):
        found = re.search(r"(?:^|\s)#+ ?(.*)$", line)
        if found:
            comment.append(found[1])
        elif comment:
            yield _passage(path, number - len(comment), " ".join(comment))
            comment = []


def _passage(path: Path, line: int, text: str) -> Passage:
    return Passage(_name(path), line, " ".join(text.split()))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def headings(document: Path) -> tuple[str, ...]:
    """The headings of a Markdown file, without those inside code blocks."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.M | re.S)
    return tuple(re.findall(r"^#+ +(.+?) *$", text, flags=re.M))


def anchor(heading: str) -> str:
    """The part after # that leads to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.casefold()).replace(" ", "-")


def is_known(dotted: str) -> bool:
    """Whether `dotted` names a module or package of ours, or something defined in one, without importing it."""
    return dotted in _packages() or definition(dotted) is not None


def definition(dotted: str) -> ast.AST | None:
    """The module, statement or field that `dotted` names; None where nothing has this name."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:n])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return _within(_parsed(path), parts[n:])
    return None


@cache
def _packages() -> frozenset[str]:
    return frozenset(p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in modules() if p.parent != ROOT)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _within(node: ast.AST, names: list[str]) -> ast.AST | None:
    for name in names:
        body = getattr(node, "body", [])
        node_or_none = next((one for one in body if name in _names(one)), None)
        if node_or_none is None:
            return None
        node = node_or_none
    return node


def _names(statement: ast.AST) -> set[str]:
    """What a statement of a module or class defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.AnnAssign | ast.Assign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(one.asname or one.name).split(".")[0] for one in statement.names}
    return set()


def literal(dotted: str) -> object:
    """The value that a constant or a field's default is written with; imports are followed. Raises ValueError."""
    found, (module, _, name) = definition(dotted), dotted.rpartition(".")
    if isinstance(found, ast.ImportFrom):
        original = next(one.name for one in found.names if (one.asname or one.name) == name)
        return literal(f"{found.module}.{original}")
    if not isinstance(found, ast.Assign | ast.AnnAssign) or found.value is None:
        raise ValueError(f"{dotted} is no constant")
    value = found.value
    target = found.targets[0] if isinstance(found, ast.Assign) else found.target
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        value = value.elts[[ast.unparse(one) for one in target.elts].index(name)]
    return literal(f"{module}.{value.id}") if isinstance(value, ast.Name) else ast.literal_eval(value)
