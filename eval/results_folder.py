"""Results on disk, one file an item: written whole or not at all, and only resumed under the same settings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import MixedResults
from maps_engine.files import write_whole

Identity = dict[str, Any]
"""All that decides the numbers, as plain JSON values."""


@dataclass(frozen=True)
class ResultsFolder:
    """A folder of `NAME.json` files, each with the identity of the settings that made it."""

    path: Path

    def write(self, name: str, identity: Identity, result: Any) -> Path:
        """Atomic: other processes, and a killed one's successor, see the whole file or none. Raises FileNotWritten."""
        text = json.dumps({"identity": identity, "result": result}, ensure_ascii=False, indent=1)
        return write_whole(self._file(name), text, parents=True, next_step="Give another folder with --out.")

    def read(self, name: str, identity: Identity) -> Any | None:
        """The result, or None where there is none (or a broken file). Raises MixedResults."""
        found = self.stored(name)
        if found is None:
            return None
        if found["identity"] != identity:
            raise _mixed(self._file(name), found["identity"], identity)
        return found["result"]

    def stored(self, name: str) -> dict[str, Any] | None:
        """`{"identity", "result"}` as stored, whatever its settings."""
        try:
            found = json.loads(self._file(name).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return None  # never made, or no whole file: made anew
        return found if isinstance(found, dict) and {"identity", "result"} <= set(found) else None

    def names(self, folder: str) -> list[str]:
        """Names of what a folder in this one holds, sorted; none where it is not there."""
        return sorted(f"{folder}/{file.stem}" for file in (self.path / folder).glob("*.json"))

    def _file(self, name: str) -> Path:
        parts = [re.sub(r"[^\w.+-]+", "-", part).lstrip(".") or "-" for part in name.split("/")]
        return self.path.joinpath(*parts[:-1], f"{parts[-1]}.json")


def _mixed(path: Path, found: Any, wanted: Identity) -> MixedResults:
    found = found if isinstance(found, dict) else {}
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return MixedResults(
        f"{path.name} in {path.parent} was made under other settings",
        got=", ".join(f"{key} {found.get(key)!r}" for key in keys),
        expected=", ".join(f"{key} {wanted.get(key)!r}" for key in keys),
        next_step="Give another --out, the same settings as before, or delete that folder.",
    )
