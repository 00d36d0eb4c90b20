"""Replies kept on disk: the same request to the same model is answered from here, in any process of this user.

Only whole conversations that ended in a valid answer are kept, request by request; refusals and failures never. What
is broken is put aside and built anew; where the folder cannot be written, one warning says so and nothing is kept.

LangChain offers a hook (`BaseCache`) and a cache in memory; its `SQLiteCache` lies in langchain-community, which is
no dependency. The hook keeps each reply as it comes, before anybody knows whether it is valid: refusals, prose and
replies that were cut off would be answered from the cache for good. Its key holds the timeout and the number of
retries besides the request, and the reply is kept before API keys are taken out of it. `local:` does not pass it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from filelock import FileLock, Timeout

from agent.llm.chat import ChatRequest, Completion, ToolCall
from maps_engine.folders import cache_folder

log = logging.getLogger("headscribe.llm")
Found = TypeVar("Found")

FILE: Final = "replies.sqlite3"
BUSY_SECONDS: Final = 10.0
FORMS_HOLD: Final = 7 * 86400.0  # servers of one's own are updated: what they take is tried again after a week
TABLES: Final = """
CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, body TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS forms (key TEXT PRIMARY KEY, body TEXT NOT NULL, at REAL NOT NULL);
"""


def key_of(identity: Mapping[str, Any], version: int, request: ChatRequest | None = None) -> str:
    """All that can change the reply and nothing else, as a hash (64 hexadecimal digits)."""
    parts = {"identity": dict(identity), "protocol": version, "request": request.to_json() if request else None}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class ReplyCache:
    """SQLite in `folder` (default: `replies` in the user's cache). A connection per use: any thread, any process."""

    folder: Path | None = None
    _readable: bool = field(default=True, repr=False)
    _writable: bool = field(default=True, repr=False)

    @property
    def path(self) -> Path:
        """The database's file; it may not be there yet."""
        return (self.folder or cache_folder() / "replies") / FILE

    def get(self, key: str) -> Completion | None:
        """The reply kept under `key`; None where there is none, or none that can be read."""
        body = self._read("SELECT body FROM reply WHERE key = ?", key)
        return None if body is None else _completion(body)

    def put(self, replies: Sequence[tuple[str, Completion]]) -> None:
        """Keep all of them, or none."""
        now = time.time()
        self._write("reply", [(key, _body(completion), now) for key, completion in replies])

    def forms(self, key: str) -> dict[str, bool]:
        """Which forms of request an endpoint was found to take, not longer than a week ago."""
        body = self._read("SELECT body FROM forms WHERE key = ? AND at > ?", key, time.time() - FORMS_HOLD)
        try:
            found = json.loads(body or "{}")
        except ValueError:
            return {}
        return {k: v for k, v in found.items() if isinstance(v, bool)} if isinstance(found, dict) else {}

    def put_forms(self, key: str, forms: Mapping[str, bool]) -> None:
        """Remember which forms of request an endpoint was found to take."""
        self._write("forms", [(key, json.dumps(dict(forms)), time.time())])

    def _read(self, query: str, *values: Any) -> str | None:
        if not self._readable or not self.path.exists():
            return None
        row = self._guarded(lambda link: link.execute(query, values).fetchone(), writes=False)
        return row[0] if row else None

    def _write(self, table: str, rows: Sequence[tuple[str, str, float]]) -> None:
        if not self._writable or not rows:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(f"{error.strerror or error}", writes=True)
            return

        def write(link: sqlite3.Connection) -> None:
            link.executescript(TABLES)
            with link:
                link.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)

        self._guarded(write, writes=True)

    def _guarded(
        self, work: Callable[[sqlite3.Connection], Found], *, writes: bool, again: bool = True
    ) -> Found | None:
        """`work` on a connection; a broken file is replaced and tried once more, other faults end the use."""
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as link:
                return work(link)
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error) and "locked" not in str(error):
                self._give_up(str(error), writes=writes)
        except sqlite3.DatabaseError as error:
            if again and self._replaced(str(error)):
                return self._guarded(work, writes=writes, again=False)
        return None

    def _replaced(self, problem: str) -> bool:
        """Put the broken file aside, unless another process has done so by now."""
        try:
            with FileLock(f"{self.path}.lock", timeout=BUSY_SECONDS):
                if _is_whole(self.path):
                    return True
                log.warning("the kept replies of language models are broken (%s); they are built anew", problem)
                self.path.replace(self.path.with_suffix(".broken"))
                Path(f"{self.path}-journal").unlink(missing_ok=True)
                return True
        except (OSError, Timeout) as error:
            self._give_up(f"{problem}; {error}", writes=True)
            self._readable = False
            return False

    def _give_up(self, problem: str, *, writes: bool) -> None:
        if self._writable and self._readable:
            log.warning("replies of language models are not kept in %s: %s", self.path.parent.name, problem)
        self._writable = False
        self._readable = self._readable and writes


def _is_whole(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as link:
            return link.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False


def _body(completion: Completion) -> str:
    kept = {"text": completion.text, "finish": completion.finish, "calls": [asdict(c) for c in completion.calls]}
    return json.dumps(kept, ensure_ascii=True)


def _completion(body: str) -> Completion | None:
    """The reply in `body`; None when it is not one."""
    try:
        kept = json.loads(body)
        calls = tuple(ToolCall(c["name"], dict(c["arguments"]), c["id"]) for c in kept["calls"])
        return Completion(kept["text"], calls, kept["finish"])
    except (ValueError, TypeError, KeyError):
        return None
