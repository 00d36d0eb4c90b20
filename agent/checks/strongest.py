"""The strongest targets of a few thousand words on every head of a model, read once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from agent.checks.pair_scorer import PairScorer
from maps_engine.engine import MapsEngine
from maps_engine.files import replacing

K: Final = 10
Told: TypeAlias = Callable[[int, int], None]  # layers done, layers


def unseen(done: int, wanted: int) -> None:
    """Progress that is not shown."""


@dataclass
class StrongestTargets:
    """The K strongest targets of words, as the scorer reads pairs; `folder` keeps them from one process to the next."""

    scorer: PairScorer
    folder: Path | None = None
    _read: dict[tuple[int, ...], Tensor] = field(default_factory=dict, repr=False)

    @property
    def maps(self) -> MapsEngine:
        """The engine; whoever uses it besides holds the scorer's lock."""
        return self.scorer.maps

    def of(self, ids: tuple[int, ...], tell: Told = unseen) -> Tensor:
        """(L, H, n, K) of int32: token ids, strongest first. One pass over the model unless they are kept."""
        with self.scorer.lock:
            if ids not in self._read:
                path = self._path(ids)
                kept = self._kept(path, len(ids))
                if kept is None:
                    layers = self.maps.shape.n_layers
                    engine = self.maps.at(self.scorer.source)
                    kept = engine.strongest(ids, k=K, progress=lambda layer: tell(layer + 1, layers))
                    _keep(path, kept)
                self._read[ids] = kept
            return self._read[ids]

    def _kept(self, path: Path | None, n: int) -> Tensor | None:
        """What an earlier process read; None where there is none that is whole."""
        shape = self.maps.shape
        if path is not None and path.is_file():
            with suppress(OSError, SafetensorError, KeyError), safe_open(path, framework="pt") as file:
                targets: Tensor = file.get_tensor("targets")
                if tuple(targets.shape) == (shape.n_layers, shape.n_heads, n, K):
                    return targets
        return None

    def _path(self, ids: tuple[int, ...]) -> Path | None:
        if self.folder is None:
            return None
        own = self.maps
        read = [own.checkpoint.fingerprint, self.scorer.source, list(own.settings.lead_in), own.settings.centred, K]
        key = hashlib.sha256(json.dumps([*read, ids]).encode()).hexdigest()
        return self.folder / "strongest-targets" / f"{key[:32]}.safetensors"


def _keep(path: Path | None, targets: Tensor) -> None:
    """A disk that is full only means that they are not kept."""
    if path is None:
        return
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file({"targets": targets.contiguous()}, temporary)
