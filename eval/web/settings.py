"""What the web app is started with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from eval.rating.store import Clock

if TYPE_CHECKING:
    from agent.pipeline.one_head import DescribedHead

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]", "::1"})
Describe = Callable[[str, int, int], "DescribedHead"]  # (model name, layer, head)


@dataclass(frozen=True)
class WebSettings:
    """The database and who may do what.

    Without accounts everybody who reaches the app is the lead: only sensible on loopback, and refused elsewhere
    by `serve`. `hosts` are the names that a request may ask for (against DNS rebinding).
    """

    engine: Engine
    accounts: bool = False
    open_browser: bool = False  # with accounts: let anybody browse heads; raters of open studies still may not
    hosts: frozenset[str] = LOOPBACK
    describe: Describe | None = None
    clock: Clock = field(default=time.time)
