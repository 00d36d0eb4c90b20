"""Checkpoints from the Hugging Face hub: only the files that the maps need."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import httpx
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from maps_engine.checkpoints.formats.folder_tokenizer import TOKENIZER_FILES
from maps_engine.errors import Failure, UnknownModel
from maps_engine.folders import cache_errors

_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
_TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")


def fetch_from_hub(model: str, revision: str | None) -> Path:
    """The local folder of a hub model. Raises UnknownModel, Failure, CacheUnusable."""
    try:
        if constants.is_offline_mode():
            return _from_cache(model, revision)
        return _from_net(model, revision)
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError) as error:
        raise _unknown(model, revision, type(error).__name__) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unknown(model, revision, "not in the hub's local cache, and the hub cannot be reached") from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise Failure("the hub did not deliver the model", got=error, next_step="Try again later.") from error


def _from_cache(model: str, revision: str | None) -> Path:
    """What an earlier run fetched. Without patterns the client would miss the files left out on purpose."""
    for weights in (_SAFETENSORS, _TORCH):
        patterns = ["config.json", *TOKENIZER_FILES, *weights]
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=patterns))
        if any(_matches(path.name, weights) for path in folder.iterdir()):
            break
    return folder


def _from_net(model: str, revision: str | None) -> Path:
    try:
        siblings = HfApi().model_info(model, revision=revision).siblings or []
    except (httpx.ConnectError, httpx.TimeoutException):
        return _from_cache(model, revision)
    with cache_errors(Path(constants.HF_HUB_CACHE)):
        names = wanted_files([file.rfilename for file in siblings])
        return Path(snapshot_download(model, revision=revision, allow_patterns=names))


def wanted_files(names: list[str]) -> list[str]:
    """Config, tokenizer, and one set of weights: safetensors where there are any."""
    weights = [name for name in names if _matches(name, _SAFETENSORS)]
    weights = weights or [name for name in names if _matches(name, _TORCH)]
    return [name for name in names if name in ("config.json", *TOKENIZER_FILES)] + weights


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns) and "/" not in name


def _unknown(model: str, revision: str | None, reason: str) -> UnknownModel:
    return UnknownModel(
        "this hub model cannot be had",
        got=f"{model}" + (f" at revision {revision}" if revision else "") + f" ({reason})",
        next_step="Check name and connection, or give a local folder, a GGUF file or the built-in smollm2-135m.",
    )
