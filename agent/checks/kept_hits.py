"""Which pairs each head hits, kept on disk from one process to the next: a row a pair, a bit a head.

One SQLite file for a model as it is read, which any number of processes may use at once. It only saves time: where it
cannot be read or written, pairs are scored anew.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

Pair: TypeAlias = tuple[int, tuple[int, ...], int]  # source, accepted targets, k

_VERSION: Final = 1  # raise when the computation changes
_AT_ONCE: Final = 500  # pairs of one question
_WAIT: Final = 30.0  # seconds for another process that writes


class KeptHits:
    """Hits of pairs on all heads under `reading`, which is all that decides them, as JSON values."""

    def __init__(self, folder: Path, reading: Sequence[Any], *, n_layers: int, n_heads: int) -> None:
        key = hashlib.sha256(json.dumps([_VERSION, *reading]).encode()).hexdigest()
        self.path = folder / "pair-hits" / f"{key[:32]}.sqlite"
        self._shape = (n_layers, n_heads)

    def read(self, pairs: Sequence[Pair]) -> dict[Pair, Tensor]:
        """(L, H) of bool for those of `pairs` that are kept."""
        if not self.path.is_file():
            return {}
        keys = {_key(pair): pair for pair in pairs}
        found: dict[Pair, Tensor] = {}
        with suppress(sqlite3.Error), self._table() as table:
            for start in range(0, len(keys), _AT_ONCE):
                asked = list(keys)[start : start + _AT_ONCE]
                marks = ",".join("?" * len(asked))
                for key, bits in table.execute(f"SELECT pair, heads FROM hits WHERE pair IN ({marks})", asked):
                    hits = self._unpacked(bits)
                    if hits is not None:
                        found[keys[key]] = hits
        return found

    def write(self, hits: Mapping[Pair, Tensor]) -> None:
        """Keep the hits of pairs; a disk that is full only means that they are not kept."""
        rows = [(_key(pair), np.packbits(one.numpy()).tobytes()) for pair, one in hits.items()]
        with suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._table() as table:
                table.executemany("INSERT OR REPLACE INTO hits VALUES (?, ?)", rows)

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are brought to the disk at the end; a file that is no database is removed."""
        with closing(sqlite3.connect(self.path, timeout=_WAIT)) as connection:
            try:
                with connection:
                    connection.execute("CREATE TABLE IF NOT EXISTS hits (pair BLOB PRIMARY KEY, heads BLOB NOT NULL)")
                    yield connection
            except sqlite3.OperationalError:  # locked, full, not to be written to: nothing is wrong with it
                raise
            except sqlite3.DatabaseError:
                self.path.unlink(missing_ok=True)
                raise

    def _unpacked(self, bits: Any) -> Tensor | None:
        n = self._shape[0] * self._shape[1]
        if not isinstance(bits, bytes) or len(bits) != (n + 7) // 8:
            return None
        return torch.from_numpy(np.unpackbits(np.frombuffer(bits, np.uint8), count=n).astype(bool)).view(self._shape)


def _key(pair: Pair) -> bytes:
    return hashlib.sha256(json.dumps(pair).encode()).digest()[:16]
