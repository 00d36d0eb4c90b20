"""The strongest targets of a few thousand words on the heads of a layer, read once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from agent.checks.pair_scorer import PairScorer
from maps_engine.engine import MapsEngine
from maps_engine.files import replacing

K: Final = 10


@dataclass
class StrongestTargets:
    """The K strongest targets of words, as the scorer reads pairs; its folder keeps them too."""

    scorer: PairScorer
    _last: tuple[int, tuple[int, ...], Tensor] | None = field(default=None, repr=False)

    @property
    def maps(self) -> MapsEngine:
        """The engine; whoever uses it besides holds the scorer's lock."""
        return self.scorer.maps

    def of(self, layer: int, ids: tuple[int, ...]) -> Tensor:
        """(H, n, K) of int32: token ids, strongest first. Read from the model unless they are kept."""
        with self.scorer.lock:
            if self._last is None or self._last[:2] != (layer, ids):
                path = self._path(layer, ids)
                kept = self._kept(path, len(ids))
                if kept is None:
                    kept = self.maps.at(self.scorer.source).strongest(ids, k=K, layers=[layer])[0]
                    _keep(path, kept)
                self._last = layer, ids, kept
            return self._last[2]

    def _kept(self, path: Path | None, n: int) -> Tensor | None:
        """What an earlier process read; None where there is none that is whole."""
        if path is not None and path.is_file():
            with suppress(OSError, SafetensorError, KeyError), safe_open(path, framework="pt") as file:
                targets: Tensor = file.get_tensor("targets")
                if tuple(targets.shape) == (self.maps.shape.n_heads, n, K):
                    return targets
        return None

    def _path(self, layer: int, ids: tuple[int, ...]) -> Path | None:
        if self.scorer.folder is None:
            return None
        key = hashlib.sha256(json.dumps([*self.scorer.reading, K, ids]).encode()).hexdigest()
        return self.scorer.folder / "strongest-targets" / key[:32] / f"layer-{layer}.safetensors"


def _keep(path: Path | None, targets: Tensor) -> None:
    """A disk that is full only means that they are not kept."""
    if path is None:
        return
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file({"targets": targets.contiguous()}, temporary)
