"""A GGUF file in this process by llama.cpp, its output held to the schema by the grammars that this build knows.

xllamacpp is its server as a library, whose chat requests are called directly. The server listens on loopback whether
or not anyone wants it, so it is given a key that nobody knows.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

from agent.errors import ModelFault
from agent.llm.chat import ChatRequest, Completion, FormRefused
from agent.llm.token_usage import Usage
from maps_engine.checkpoints.formats.gguf_file.header import read_gguf_header
from maps_engine.errors import UnsupportedModel

LONGEST_CONTEXT: Final = 16_384  # tokens of question and reply: bounds the memory of keys and values
TOO_LONG: Final = "exceed_context_size_error"


def llama_version() -> str:
    """That of the package that runs llama.cpp, or an empty text where it is not installed."""
    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return ""


class LlamaModel:
    """The file opened for one reply at a time. Raises UnsupportedModel where llama.cpp cannot run it."""

    def __init__(self, path: Path) -> None:
        import xllamacpp

        trained = int(read_gguf_header(path).own("context_length", LONGEST_CONTEXT))
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = min(trained, LONGEST_CONTEXT), 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.warmup, params.verbosity = False, -1
        params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [secrets.token_hex(16)]
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise UnsupportedModel(
                "llama.cpp cannot run this file", got=error, next_step="Use a folder of the same model."
            ) from error

    def reply(self, request: ChatRequest, temperature: float) -> Completion:
        """The text of one reply. Raises ModelFault where the question leaves no room for an answer, FormRefused."""
        import xllamacpp

        sent: dict[str, Any] = {
            "messages": [{"role": turn.role, "content": turn.text} for turn in request.turns],
            "max_tokens": request.max_tokens,
            "temperature": temperature,
        }
        if request.form == "json_schema":
            # blanks between the parts of JSON are half of what a small model writes
            schema = {**(request.schema or {}), "x-guidance": {"whitespace_flexible": False}}
            try:
                sent["grammar"] = xllamacpp.json_schema_to_grammar(json.dumps(schema))
            except (ValueError, RuntimeError) as error:
                raise FormRefused(f"no grammar for this schema: {error}") from error
        try:
            return _completion(self._server.handle_chat_completions(sent))
        except (ValueError, RuntimeError) as error:
            raise ModelFault("server", f"llama.cpp gave no reply: {error}") from error


def _completion(answer: Mapping[str, Any]) -> Completion:
    if "error" in answer:
        error = answer["error"]
        kind = "too long" if error.get("type") == TOO_LONG else "server"
        raise ModelFault(kind, str(error.get("message") or json.dumps(error)))
    choice, used = answer["choices"][0], answer["usage"]
    usage = Usage(used["prompt_tokens"], used["completion_tokens"])
    return Completion(choice["message"].get("content") or "", finish=choice["finish_reason"], usage=usage)
