"""Rows of X that took long to compute, kept on disk: one file a layer, within a bound on the space of all models.

A file is written whole or not at all and brought to the disk before it gets its name; one that was cut short
afterwards is refused by its header and computed again. When the bound is reached, what was used longest ago goes
first; rows that would not fit at all are not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maps_engine.errors import UserMistake
from maps_engine.files import replacing
from maps_engine.folders import cache_folder

LIMIT_GB = 8.0
LIMIT_VARIABLE = "HEADSCRIBE_RESIDUALS_GB"
_VERSION = 2  # raise when the computation changes


class KeptRows:
    """X of one checkpoint under one way of computing it; `identity` holds all that decides the numbers."""

    def __init__(self, identity: Mapping[str, Any], *, n_layers: int, rows: int, width: int) -> None:
        text = json.dumps({**identity, "version": _VERSION}, sort_keys=True)
        self._parent = cache_folder() / "residuals"
        self.folder = self._parent / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._shape, self._whole = (rows, width), n_layers * rows * width * 2
        self._open: dict[int, Tensor] = {}

    def has(self, layer: int) -> bool:
        """Whether rows of this layer can be read."""
        return self.read(layer) is not None

    def read(self, layer: int) -> Tensor | None:
        """(V, d) float16, mapped from the file; None where there is no sound one."""
        if layer not in self._open and self._file(layer).is_file():
            with suppress(OSError, SafetensorError, KeyError), safe_open(self._file(layer), framework="pt") as file:
                rows: Tensor = file.get_tensor("rows")
                if tuple(rows.shape) == self._shape and rows.dtype == torch.float16:
                    self._open[layer] = rows
                    os.utime(self.folder)
        return self._open.get(layer)

    def write(self, layer: int, rows: Tensor) -> None:
        """Keep (V, d) float16 rows where there is room; a disk that is full only means that they are not kept."""
        if self._whole > limit_bytes():
            return
        with suppress(OSError, SafetensorError):  # the second is what a full disk gives while a file is written
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room()
            with replacing(self._file(layer)) as temporary:
                save_file({"rows": rows.cpu().contiguous()}, temporary)

    def _file(self, layer: int) -> Path:
        return self.folder / f"layer-{layer}.safetensors"

    def _make_room(self) -> None:
        """Remove what was used longest ago until all layers of this one fit beside the rest."""
        others = [one for one in self._parent.iterdir() if one.is_dir() and one != self.folder]
        sizes = {one: sum(file.stat().st_size for file in one.iterdir()) for one in others}
        for one in sorted(others, key=lambda folder: folder.stat().st_mtime):
            if sum(sizes.values()) + self._whole <= limit_bytes():
                return
            shutil.rmtree(one, ignore_errors=True)
            del sizes[one]


def limit_bytes() -> float:
    """The bound on disk space, from `HEADSCRIBE_RESIDUALS_GB` (0: keep nothing). Raises UserMistake."""
    text = os.environ.get(LIMIT_VARIABLE, "") or str(LIMIT_GB)
    try:
        return float(text) * 1e9
    except ValueError as error:
        raise UserMistake(f"{LIMIT_VARIABLE} is not a number", got=text, expected="gigabytes, such as 8") from error
