"""Files are written whole or not at all, by one function that everything uses."""

from __future__ import annotations

import ast
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import agent
import eval as eval_package
import maps_engine
import prompts
from maps_engine.errors import FileNotWritten
from maps_engine.files import whole_file, write_whole

PACKAGES = [Path(str(one.__file__)).parent for one in (maps_engine, agent, prompts, eval_package)]
# The one writer, and the copy of a packaged checkpoint into a folder that is renamed when all of it is there.
MAY_WRITE = {"maps_engine/files.py", "maps_engine/checkpoints/builtin_models.py"}
INTO_ITS_TEMPORARY_FILE = {
    "agent/output/relation_files.py",
    "agent/output/run_files.py",
    "agent/output/run_report.py",
    "maps_engine/folders.py",
}


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond `n_bytes`, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_texts_and_bytes_come_back(tmp_path: Path) -> None:
    for content in ("größer\n\r\n", b"\x00\xff", "", "half \ud83d"):
        assert write_whole(tmp_path / "a.txt", content) == tmp_path / "a.txt"
        expected = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
        assert (tmp_path / "a.txt").read_bytes() == expected
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("old", [None, "before"])
def test_a_full_disk_leaves_what_was_there_and_one_line(tmp_path: Path, old: str | None) -> None:
    if old is not None:
        (tmp_path / "a").write_text(old)
    with largest_file(10_000), pytest.raises(FileNotWritten) as caught:
        write_whole(tmp_path / "a", b"x" * 50_000)
    assert "\n" not in str(caught.value)
    assert f"got {tmp_path / 'a'}: File too large" in str(caught.value)
    assert names(tmp_path) == ([] if old is None else ["a"])
    assert old is None or (tmp_path / "a").read_text() == old


def test_a_missing_folder_is_one_line_unless_it_may_be_made(tmp_path: Path) -> None:
    place = tmp_path / "absent" / "below" / "a"
    with pytest.raises(FileNotWritten, match=r"absent/below/a: No such file or directory; expected a folder that"):
        write_whole(place, "x")
    assert names(tmp_path) == []
    write_whole(place, "x", parents=True)
    assert place.read_text() == "x"
    with pytest.raises(FileNotWritten, match=r"Not a directory|File exists"):
        write_whole(place / "b", "x", parents=True)


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotWritten, match="Is a directory"):
        write_whole(tmp_path / "a", "x")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_or_an_interrupt_amid_the_writing_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.csv").write_text("before")

    def stopped() -> None:
        with whole_file(tmp_path / "a.csv") as temporary:
            temporary.write_text("half")
            assert (temporary.parent, temporary.suffix) == (tmp_path, ".csv")
            raise error

    with pytest.raises(error):
        stopped()
    assert names(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "before"


def test_rights_and_links_stay(tmp_path: Path) -> None:
    kept, link, new = (tmp_path / name for name in ("kept", "link", "new"))
    kept.write_text("before")
    kept.chmod(0o640)
    link.symlink_to("kept")
    write_whole(link, "after")
    assert (link.is_symlink(), kept.read_text()) == (True, "after")
    assert kept.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        write_whole(new, "x")
    finally:
        os.umask(mask)
    assert new.stat().st_mode & 0o777 == 0o640


def test_devices_and_pipes_are_written_to_and_stay(tmp_path: Path) -> None:
    write_whole(Path(os.devnull), "x")
    assert not Path(os.devnull).is_file()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "through")
    reader.join(10)
    assert (found, names(tmp_path)) == (["through"], ["pipe"])


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".csv")
    write_whole(path, "x")
    assert path.read_text() == "x"


def test_readers_beside_many_writers_see_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([65 + i]) * 200_000 for i in range(4)]
    write_whole(path, contents[0])
    writers = [threading.Thread(target=lambda c=c: [write_whole(path, c) for _ in range(5)]) for c in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= set(contents)
    assert names(tmp_path) == ["a"]


def test_nothing_else_in_the_packages_writes_files() -> None:
    found = set()
    for folder in PACKAGES:
        for path in folder.rglob("*.py"):
            name = str(path.relative_to(folder.parent))
            if name not in MAY_WRITE and any(map(_opens_to_write, ast.walk(ast.parse(path.read_text("utf-8"))))):
                found.add(name)
    assert found == INTO_ITS_TEMPORARY_FILE


def _opens_to_write(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in ("write_text", "write_bytes", "mkstemp", "NamedTemporaryFile"):
        return True
    modes = [one.value for one in node.args[:2] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return name == "open" and any(mode[:1] in ("w", "a", "x") and len(mode) <= 3 for mode in modes)
