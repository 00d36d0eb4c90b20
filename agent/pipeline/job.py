"""What is to be labelled: the request as given, resolved against a model, with the identity it is stored under."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from agent.checks.pair_cache import PairCachingEngine
from agent.describers.factory import chosen_name
from agent.llm.options import MAX_REVISIONS, ModelOptions
from agent.pipeline.session import DEFAULT_MODEL_OPTIONS, RETRIEVED, HeadSession
from agent.runs.claims import LEASE_SECONDS
from agent.runs.identity import RunIdentity, content_hash
from agent.runs.state import HeadKey
from maps_engine.checkpoints.opening import pick_device
from maps_engine.errors import OutOfRange, UserMistake
from maps_engine.results import EngineSettings
from prompts import load_prompts

DEFAULT_WORKERS = 8  # replies of a language model in flight
EngineName = Literal["local", "ray"]
HEADS_AT_ONCE = 144  # each batch costs a pass over the model to test it; a language model's replies are kept anyway


@dataclass(frozen=True)
class LabelRequest:
    """All that `label-heads` was asked for that concerns numbers and words; None means all."""

    model: str = "smollm2-135m"
    revision: str | None = None
    layers: str | None = None
    heads: str | None = None
    settings: EngineSettings = field(default_factory=lambda: EngineSettings(source="auto"))
    describer: str = "auto"
    device: str = "auto"
    workers: int = DEFAULT_WORKERS
    heads_at_once: int = HEADS_AT_ONCE
    use_cache: bool = True
    store_folder: Path | None = None
    store_url: str | None = None
    model_options: ModelOptions = DEFAULT_MODEL_OPTIONS
    max_revisions: int = MAX_REVISIONS


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


def check_request(request: LabelRequest, engine: str = "local") -> None:
    """Refuse, before anything is opened or recorded, what cannot be done. Raises UserMistake."""
    for what, value in (("workers", request.workers), ("heads at once", request.heads_at_once)):
        if value < 1:
            raise UserMistake("nothing can be done", got=f"{value} {what}", expected="at least 1")
    for device in devices_of(request.device):
        pick_device(device)
    check_engine(engine)


def check_engine(engine: str) -> None:
    """Raises UserMistake for one that is not there."""
    if engine not in get_args(EngineName):
        raise UserMistake("no such engine", got=engine, expected=" or ".join(get_args(EngineName)))


def devices_of(text: str) -> tuple[str, ...]:
    """`cuda:0,cuda:1` as its parts. Raises UserMistake for an empty one."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UserMistake("a device is empty", got=text, expected="auto, cpu, cuda:0 or several with commas")
    return parts


def open_session(request: LabelRequest, *, device: str | None = None) -> HeadSession:
    """The model with its describer, pairs scored once. Raises HeadscribeError."""
    engine = PairCachingEngine.open(
        request.model, settings=request.settings, revision=request.revision, device=device or request.device
    )
    return HeadSession(
        engine,
        describer_name=chosen_name(request.describer),
        use_cache=request.use_cache,
        store_folder=request.store_folder,
        store_url=request.store_url,
        model_options=request.model_options,
        max_revisions=request.max_revisions,
    )


def identity_of(session: HeadSession) -> RunIdentity:
    """Everything that decides the descriptions (DESIGN, "Identity and failure")."""
    describer = session.describer
    retrieval = {
        "embedder": session.mapping_embedder.name,
        "n": RETRIEVED,
        "operations": content_hash([[r.name, r.description, r.pairs] for r in session.relations]),
    }
    return RunIdentity(
        fingerprint=session.engine.checkpoint.fingerprint,
        engine=session.engine.settings,
        prompt_hash=prompt_hash(),
        describer=describer.name,
        describer_settings=dict(describer.settings) | {"retrieval": retrieval},
    )


def prompt_hash() -> str:
    """One hash over field labels and all templates but those that score descriptions afterwards."""
    prompts = load_prompts()
    versions = {name: one.version for name, one in prompts.templates.items() if not name.startswith("score_")}
    return content_hash([versions, prompts.field_labels_version])[:32]


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
