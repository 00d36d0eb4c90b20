"""What is asked for: which heads of which model, and how they are to be described."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from agent.llm.options import MAX_REVISIONS, NAMED_PARTS, ModelOptions
from agent.runs.claims import LEASE_SECONDS
from agent.runs.state import HeadKey
from maps_engine.checkpoints.opening import pick_device
from maps_engine.errors import OutOfRange, UserMistake
from maps_engine.results import EngineSettings

DEFAULT_WORKERS: Final = 8  # replies of a language model in flight
BackendName = Literal["local", "ray"]
HEADS_AT_ONCE: Final = 144  # a batch costs a pass over the model to test it; what a language model said is kept anyway


@dataclass(frozen=True, kw_only=True)
class DescribeRequest:
    """All that decides what is said of a head of `model`, and on which device it is computed.

    `store_folder` and `store_url` say where the known operations lie; without them, in the user's data folder.
    """

    model: str = "smollm2-135m"
    revision: str | None = None
    settings: EngineSettings = field(default_factory=lambda: EngineSettings())
    describer: str = "auto"
    device: str = "auto"
    use_cache: bool = True
    store_folder: Path | None = None
    store_url: str | None = None
    model_options: ModelOptions = field(default_factory=ModelOptions)
    max_revisions: int = MAX_REVISIONS
    most_parts: int = NAMED_PARTS  # of a head, that a language model is asked to name
    attention: bool = True  # what heads attend to is read too
    counted: bool = (
        True  # a counted claim that its test supports takes the place of a model's words that theirs does not
    )


@dataclass(frozen=True, kw_only=True)
class LabelRequest(DescribeRequest):
    """The same for many heads: `layers` and `heads` such as `0-11,20`, None for all; `device` may name several."""

    layers: str | None = None
    heads: str | None = None
    workers: int = DEFAULT_WORKERS
    heads_at_once: int = HEADS_AT_ONCE


@dataclass(frozen=True)
class LabelJob:
    """One run for one process: picklable, and enough to work on it anywhere that sees database and checkpoint."""

    request: LabelRequest
    database: str
    run_id: int
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    device: str = "auto"
    lease_seconds: float = LEASE_SECONDS

    @property
    def keys(self) -> list[HeadKey]:
        """Every (layer, head) of the job."""
        return [(layer, head) for layer in self.layers for head in self.heads]


def check_request(request: LabelRequest, backend: str = "local") -> None:
    """Refuse, before anything is opened or recorded, what cannot be done. Raises UserMistake."""
    for what, value in (("workers", request.workers), ("heads at once", request.heads_at_once)):
        if value < 1:
            raise UserMistake("nothing can be done", got=f"{value} {what}", expected="at least 1")
    for device in devices_of(request.device):
        pick_device(device)
    check_backend(backend)


def check_backend(backend: str) -> None:
    """Raises UserMistake for one that is not there."""
    if backend not in get_args(BackendName):
        raise UserMistake("no such engine", got=backend, expected=" or ".join(get_args(BackendName)))


def devices_of(text: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` as its parts. Raises UserMistake for an empty one."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UserMistake("a device is empty", got=text, expected="auto, cpu, cuda:0 or several with commas")
    return parts


_PART = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?")


def parse_indices(text: str | None, size: int, what: str) -> tuple[int, ...]:
    """`0-11,20` as sorted numbers below `size`; None, "" and "all" mean all. Raises UserMistake, OutOfRange."""
    if text is None or text.strip() in ("", "all"):
        return tuple(range(size))
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UserMistake(f"not a list of {what}s", got=text, expected=f"numbers and ranges such as 0-{size - 1}")
        found.update(_checked(range(first, last + 1), size, what))
    return tuple(sorted(found))


def _checked(values: range, size: int, what: str) -> Iterable[int]:
    if values[-1] >= size:
        raise OutOfRange(f"the model has no {what} {values[-1]}", expected=f"0 to {size - 1}")
    return values
