"""Opening a folder in transformers' layout: config.json, weight files, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maps_engine.checkpoints.families.registry import settings_of
from maps_engine.checkpoints.fingerprint import fingerprint
from maps_engine.checkpoints.formats.folder_tokenizer import TOKENIZER_FILES, folder_tokenizer
from maps_engine.checkpoints.formats.opened import OpenedFiles
from maps_engine.checkpoints.formats.safetensors_source import SafetensorsSource
from maps_engine.checkpoints.formats.tensor_source import JoinedSource, TensorSource
from maps_engine.checkpoints.formats.torch_source import TorchSource
from maps_engine.errors import BrokenCheckpoint, UnknownModel

# in order of preference; an index names the shards
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model.pt",
)


def open_folder_checkpoint(folder: Path) -> OpenedFiles:
    """Raises UnknownModel (no config or weights), UnsupportedModel, BrokenCheckpoint."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise UnknownModel("the folder holds no checkpoint", got=f"no config.json in {folder}")
    config = read_json(config_file)
    settings = settings_of(config)
    files = weight_files(folder)
    parts = [_source(path) for path in files]
    small = [folder / name for name in ("config.json", *TOKENIZER_FILES) if (folder / name).is_file()]
    return OpenedFiles(
        settings=settings,
        source=parts[0] if len(parts) == 1 else JoinedSource(parts),
        tokenizer=folder_tokenizer(folder),
        special=special_ids(config),
        ends=ids_of(config, "bos_token_id", "eos_token_id"),
        fingerprint=fingerprint([*small, *files]),
    )


def weight_files(folder: Path) -> list[Path]:
    """The file or all shards of a checkpoint, in a fixed order. Raises UnknownModel, BrokenCheckpoint."""
    for name in WEIGHT_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            return [path]
        return _shards(path)
    ggufs = sorted(folder.glob("*.gguf"))
    raise UnknownModel(
        "the folder holds no weights",
        got=f"none of {', '.join(WEIGHT_FILES)} in {folder}",
        next_step=f"Give the file itself: --model {ggufs[0]}" if ggufs else None,
    )


def _shards(index: Path) -> list[Path]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise BrokenCheckpoint(f"{index.name} lists no shards", got=type(table).__name__)
    # a name with a folder in it could point anywhere on this machine
    names = sorted({Path(str(name)).name for name in table.values()})
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        raise BrokenCheckpoint(
            "the checkpoint is incomplete",
            got=f"no {', '.join(absent[:4])}" + (f" and {len(absent) - 4} more" if len(absent) > 4 else ""),
            expected=f"{len(names)} shards",
            next_step="Fetch the whole checkpoint again.",
        )
    return [index.parent / name for name in names]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises BrokenCheckpoint."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BrokenCheckpoint(f"{path.name} is not valid JSON", got=error) from error
    if not isinstance(value, dict):
        raise BrokenCheckpoint(f"{path.name} is not what it should be", got=type(value).__name__, expected="object")
    return value


def _source(path: Path) -> TensorSource:
    return SafetensorsSource(path) if path.suffix == ".safetensors" else TorchSource(path)


def special_ids(config: dict[str, Any]) -> frozenset[int]:
    """Beginning, end and padding tokens, where the config names them."""
    return frozenset(ids_of(config, "bos_token_id", "eos_token_id", "pad_token_id"))


def ids_of(config: dict[str, Any], *keys: str) -> tuple[int, ...]:
    """Token ids that these keys name, in their order; a key may hold one id, a list or nothing."""
    values = [config.get(key) for key in keys]
    lists = [value if isinstance(value, list) else [value] for value in values]
    return tuple(item for one in lists for item in one if isinstance(item, int))
