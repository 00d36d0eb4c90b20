"""The agent's own leaves under the two branches of `maps_engine.errors`.

UserMistake
├── UnknownDescriber       no such describer
└── OtherEmbedder          the store of known operations was built with another embedder
Failure
├── StoreUnusable          the store cannot be opened, read or written
└── StoreBusy              another process owns the store's folder
"""

from __future__ import annotations

from maps_engine.errors import Failure, UserMistake


class UnknownDescriber(UserMistake):
    """No such describer, or one that lacks its settings."""


class OtherEmbedder(UserMistake):
    """The store of known operations was built with another embedder."""


class StoreUnusable(Failure):
    """The store of known operations cannot be opened, read or written."""


class StoreBusy(Failure):
    """Another process owns the folder of the store."""
