"""What makes two runs the same: checkpoint, engine settings, prompt, describer and its settings.

Why runs have an identity: docs/design.md, "Identity and failure".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from maps_engine.results import EngineSettings

if TYPE_CHECKING:  # the records work without torch
    from maps_engine.model import Checkpoint, ModelShape

# The first parts of the web app's own addresses: a model may not be called like one of them.
_RESERVED = (
    "about api compare docs healthz join lead models openapi.json rate redoc search sign-in sign-out static studies"
)
RESERVED_SLUGS = frozenset(_RESERVED.split(" "))


@dataclass(frozen=True)
class ModelCard:
    """What the records keep of a checkpoint."""

    name: str
    fingerprint: str
    shape: ModelShape
    location: str = ""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ModelCard:
        """The card of an opened checkpoint."""
        shape = checkpoint.weights.shape
        return cls(checkpoint.name, checkpoint.fingerprint, shape, checkpoint.location)

    @property
    def slug(self) -> str:
        """The name as one safe part of an address, for example `meta-llama--llama-3.1-8b`."""
        text = re.sub(r"[^a-z0-9.]+", "-", self.name.replace("/", "--").lower().strip())
        text = text.strip("-.")[:150] or "model"
        return f"{text}-model" if text in RESERVED_SLUGS else text


@dataclass(frozen=True)
class RunIdentity:
    """All that decides the results of a run. Equal identities share one run; any difference is a new run."""

    fingerprint: str
    engine: EngineSettings
    prompt_hash: str
    describer: str
    describer_settings: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """As plain JSON values, the way they are stored with the run."""
        return {
            "fingerprint": self.fingerprint,
            "engine": self.engine.to_json(),
            "prompt_hash": self.prompt_hash,
            "describer": self.describer,
            "describer_settings": dict(self.describer_settings),
        }

    def hash(self) -> str:
        """SHA-256 of the canonical JSON of `settings()`."""
        return content_hash(self.settings())


def constants_hash(modules: Iterable[ModuleType]) -> str:
    """One hash over the numbers that modules name in capitals, in their order: other numbers make other results."""
    numbers = (
        {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in vars(module).items()
            if name.isupper() and isinstance(value, int | float | frozenset)
        }
        for module in modules
    )
    return content_hash(list(numbers))[:12]


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
