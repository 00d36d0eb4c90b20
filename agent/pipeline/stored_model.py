"""The model whose heads a run or a file holds, opened once more."""

from __future__ import annotations

from maps_engine.engine import MapsEngine
from maps_engine.errors import HeadscribeError, UserMistake
from maps_engine.results import EngineSettings


def open_stored_model(
    name: str, *, fingerprint: str, settings: EngineSettings, device: str = "auto", next_step: str
) -> MapsEngine:
    """The model `name` under the settings of its stored heads.

    Raises UserMistake where another model lies there now, and what `MapsEngine.open` raises, advised by `next_step`.
    """
    try:
        engine = MapsEngine.open(name, settings=settings, device=device)
    except HeadscribeError as error:
        raise type(error)(error.what, got=error.got, expected=error.expected, next_step=next_step) from error
    if engine.checkpoint.fingerprint != fingerprint:
        raise UserMistake(
            "these heads are of another model",
            got=f"{name} {engine.checkpoint.fingerprint[:12]}",
            expected=fingerprint[:12],
            next_step=next_step,
        )
    return engine
