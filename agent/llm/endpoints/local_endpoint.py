"""`local:PATH_OR_ID`: a model in this process, its replies held to the schema.

llama.cpp runs GGUF files on a CPU; transformers runs folders, and everything on a GPU. What either takes:
docs/method.md, "Head to operation: salient operations". One reply at a time: the model fills the machine by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from agent.llm.chat import ChatRequest, Completion, Form, FormRefused
from agent.llm.endpoints.llama_model import LlamaModel, llama_version
from agent.llm.endpoints.transformers_model import REPEATED, TransformersModel, require_llguidance
from agent.llm.options import ModelOptions
from maps_engine.checkpoints.fingerprint import fingerprint
from maps_engine.checkpoints.formats.folder_checkpoint import weight_files
from maps_engine.checkpoints.locate import Located, locate
from maps_engine.checkpoints.opening import pick_device


class LocalModel(Protocol):
    """A model in memory."""

    def reply(self, request: ChatRequest, temperature: float) -> Completion:
        """The text of one reply. Raises ModelFault, FormRefused."""


class LocalEndpoint:
    """A transformers folder, hub id, GGUF file or built-in alias. The weights are read at the first request.

    Raises ExtraMissing without the packages that run it, UserMistake where `name` or the device cannot be found.
    """

    forms: tuple[Form, ...] | None = ("json_schema",)

    def __init__(self, name: str, options: ModelOptions) -> None:
        self._located = locate(name)
        self._device = pick_device(options.device)
        self._temperature = options.temperature
        self._lock = threading.Lock()
        self._model: LocalModel | None = None
        llama = llama_version() if self._located.kind == "gguf" and self._device.type == "cpu" else ""
        self._by_llama = bool(llama)
        if not llama:
            require_llguidance()
        self.identity: Mapping[str, Any] = {
            "provider": "local",
            "model": Path(name).name,
            "fingerprint": fingerprint(_files(self._located)),
            "device": self._device.type,
            "temperature": options.temperature,
            "engine": f"llama.cpp {llama}" if llama else f"transformers, without repeats of {REPEATED}",
        }

    def complete(self, request: ChatRequest) -> Completion:
        """One reply, after those asked for before. Raises ModelFault, FormRefused, Failure, UnsupportedModel."""
        if request.form not in ("json_schema", "text"):
            raise FormRefused(f"a local model takes a schema, not {request.form}")
        with self._lock:
            if self._model is None:
                self._model = self._opened()
            return self._model.reply(request, self._temperature)

    def without_secrets(self, text: str) -> str:
        """`text` as it is: a model in this process needs no API key."""
        return text

    def without_parameter(self, name: str) -> bool:
        """False: a model in this process refuses no parameter."""
        del name
        return False

    def _opened(self) -> LocalModel:
        return LlamaModel(self._located.path) if self._by_llama else TransformersModel(self._located, self._device)


def _files(located: Located) -> list[Path]:
    if located.kind == "gguf":
        return [located.path]
    rest = [located.path / name for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
    return [*weight_files(located.path), *(path for path in rest if path.exists())]
