"""The agent's own leaves under the two branches of `maps_engine.errors`.

UserMistake
├── UnknownDescriber       no such describer
├── OtherEmbedder          the store of known operations was built with another embedder
├── UnknownOperation       no such operation in the store, or one that cannot be added
├── BadDatabaseUrl         neither a file name nor a SQLite or PostgreSQL address
└── UnknownRun             no run of that number, or no such head in it
Failure
├── StoreUnusable          the store cannot be opened, read or written
├── StoreBusy              another process owns the store's folder
├── DatabaseUnusable       locked, lost, full, unreadable, or its driver is missing
├── DescriberDown          many descriptions in a row failed
├── ModelFault             a language model gave no usable answer; `kind` says how
├── ModelDown              a language model takes no question at all: wrong key, no such model, no quota left
├── BudgetSpent            the tokens or the money allowed for language models are used up
├── WorkerLost             a worker process died again and again
└── ExtraMissing           an optional part is not installed
"""

from __future__ import annotations

from maps_engine.errors import Failure, UserMistake


class UnknownDescriber(UserMistake):
    """No such describer, or one that lacks its settings."""


class OtherEmbedder(UserMistake):
    """The store of known operations was built with another embedder."""


class UnknownOperation(UserMistake):
    """No such operation in the store, or one that cannot be added."""


class StoreUnusable(Failure):
    """The store of known operations cannot be opened, read or written."""


class StoreBusy(Failure):
    """Another process owns the folder of the store."""


class BadDatabaseUrl(UserMistake):
    """Neither a file name nor a SQLite or PostgreSQL address."""


class UnknownRun(UserMistake):
    """No run of that number in the database, or no such head in the run."""


class DatabaseUnusable(Failure):
    """The database is locked, lost, full or unreadable, or its driver is missing."""


class DescriberDown(Failure):
    """Many descriptions in a row failed: the describer is not to be had."""


class ModelFault(Failure):
    """No usable answer after the retries that its kind allows: one question failed, not the run."""

    def __init__(self, kind: str, reason: str, *, raw: str = "") -> None:
        super().__init__(reason)
        self.kind = kind  # "rate limit" | "server" | "timeout" | "connection" | "refusal" | "empty" | "cut off" | …
        self.reason = reason
        self.raw = raw  # the reply as it came, where there was one


class ModelDown(Failure):
    """No question would fare better (wrong key, no such model, no quota left): the run must stop."""

    def __init__(self, what: str, reason: str, *, kind: str) -> None:
        super().__init__(what, got=reason, next_step=_NEXT_STEPS.get(kind, _NEXT_STEPS[""]))
        self.kind = kind  # "key" | "forbidden" | "not found" | "no quota"


_NEXT_STEPS = {
    "key": "See to the key in the environment, OPENAI_API_KEY or the provider's own.",
    "not found": "See to the model's name and to the address, OPENAI_BASE_URL or the provider's own.",
    "no quota": "See to the account at the provider; what is done is kept.",
    "": "See to what the key is allowed to use.",
}


class BudgetSpent(Failure):
    """The tokens or the money allowed for language models are used up; what is done is kept."""


class WorkerLost(Failure):
    """A worker process died again and again."""


class ExtraMissing(Failure):
    """An optional part (Parquet, Ray) is asked for and not installed."""
