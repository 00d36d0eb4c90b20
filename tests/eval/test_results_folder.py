"""Results on disk: whole files, broken files made anew, other settings refused."""

from __future__ import annotations

import pytest

from eval.errors import MixedResults
from eval.results_folder import ResultsFolder
from maps_engine.errors import Failure


def test_files_are_written_whole(tmp_path):
    folder = ResultsFolder(tmp_path)
    path = folder.write("a/b", {"kind": "x"}, [1])
    assert path == tmp_path / "a" / "b.json"
    assert folder.read("a/b", {"kind": "x"}) == [1]
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]
    assert folder.read("a/none", {}) is None
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "as readable as any file of the user"


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"identity": 1}', "[" * 100_000])
def test_broken_files_are_made_anew(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert ResultsFolder(tmp_path).read("a", {}) is None


def test_names_cannot_leave_the_folder(tmp_path):
    assert ResultsFolder(tmp_path).write("../../x y", {}, 1).is_relative_to(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="Give another folder with --out"):
        ResultsFolder(tmp_path / "file" / "below").write("a", {}, 1)
    (tmp_path / "a.json").mkdir()
    with pytest.raises(Failure, match="cannot be written"):
        ResultsFolder(tmp_path).write("a", {}, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "file"], "nothing half-written stays"


def test_identities_that_are_no_object_are_refused_clearly(tmp_path):
    folder = ResultsFolder(tmp_path)
    (tmp_path / "a.json").write_text('{"identity": 3, "result": 1}')
    with pytest.raises(MixedResults, match="got kind None; expected kind 'x'"):
        folder.read("a", {"kind": "x"})
