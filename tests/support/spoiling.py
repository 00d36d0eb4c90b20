"""Opens checkpoint folders, and changes them first."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from maps_engine.checkpoints.opening import open_checkpoint


def opened(folder: Path, **options):
    return open_checkpoint(str(folder), device="cpu", **options)


def rewrite(folder: Path, change) -> None:
    """Apply `change` to the dictionary of tensors."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors")


def set_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
