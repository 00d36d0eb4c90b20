"""Scores read from weights (static scores) under each of the engine's settings, kept in the folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eval.faithfulness.bench import Bench
from eval.faithfulness.running.pair_choice import ChosenPairs
from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel
from maps_engine.ov.pair_scores import PairScores, PairSet
from maps_engine.results import EngineSettings


@dataclass(frozen=True)
class StaticSetting:
    """Settings of the engine under a name for tables."""

    name: str
    settings: EngineSettings

    def to_json(self) -> dict[str, Any]:
        """The settings that decide a relation score, as plain JSON values."""
        one = self.settings
        return {
            "source": one.source,
            "fold_norms": one.fold_norms or one.fold_biases,
            "fold_biases": one.fold_biases,
            "first_mlp_in_layer_0": one.first_mlp_in_layer_0,
            **({"lead_in": list(one.lead_in)} if one.source == "residual" else {}),
        }


def _setting(name: str, source: str, **options: Any) -> StaticSetting:
    return StaticSetting(name, EngineSettings(source=source, **options))


PAPER = _setting("paper", "first-mlp")
COMPARED = (
    PAPER,
    _setting("first-mlp in layer 0 too", "first-mlp", first_mlp_in_layer_0=True),
    _setting("first-mlp, norms", "first-mlp", fold_norms=True),
    _setting("embedding", "embedding"),
    _setting("embedding, norms", "embedding", fold_norms=True),
    _setting("residual", "residual"),
)
WITH_BIASES = (
    _setting("first-mlp, norms and biases", "first-mlp", fold_biases=True),
    _setting("embedding, norms and biases", "embedding", fold_biases=True),
)

StaticTable = dict[str, PairScores]


def named_setting(settings: EngineSettings) -> StaticSetting:
    """The setting under its name in the comparison, or a spelled-out one."""
    for one in (*COMPARED, *WITH_BIASES):
        if StaticSetting("", settings).to_json() == one.to_json():
            return one
    parts = [settings.source, *(name for name, on in StaticSetting("", settings).to_json().items() if on is True)]
    return StaticSetting(", ".join(parts), settings)


def has_biases(bench: Bench) -> bool:
    """Whether folding biases changes anything: a value bias or a bias of the attention's norm."""
    weights = bench.checkpoint.weights
    norm = weights.attention_norm(0)
    return weights.attention(0).value_bias is not None or (norm is not None and norm.bias is not None)


def compared_settings(bench: Bench) -> tuple[StaticSetting, ...]:
    """The settings that this model can be read with; those that fold biases only where it has biases."""
    settings = COMPARED + (WITH_BIASES if has_biases(bench) else ())
    try:
        MapsEngine(bench.checkpoint, PAPER.settings).at("first-mlp").sources.rows(1, torch.tensor([0]))
    except UnsupportedModel:  # a mixture of experts has no single first MLP
        return tuple(one for one in settings if one.settings.source != "first-mlp")
    return settings


def static_scores(
    bench: Bench, chosen: Sequence[ChosenPairs], setting: StaticSetting, *, store: str = "static"
) -> StaticTable:
    """phi and suppression, (L, H) each, of `chosen` (one-token sources) by name; read from the folder if stored there.

    store: the subfolder. Raises UnsupportedModel where the model cannot be read with `setting`, Failure.
    """
    pairs = {one.name: one.fingerprint for one in chosen}
    identity = bench.identity("static", **setting.to_json(), pairs=pairs)
    name = f"{store}/{setting.name.replace(', ', '+').replace(' ', '-')}"
    stored = bench.folder.stored(name)
    if stored is not None and stored["identity"] == identity:
        return {one: _scores(tables) for one, tables in stored["result"].items()}
    # other pairs than before: cheap, and made from weights alone, so it is simply made anew
    with bench.timed("static scores"):
        table = _scan(bench, chosen, setting)
    bench.folder.write(name, identity, {one: _tables(scores) for one, scores in table.items()})
    return table


def _scan(bench: Bench, chosen: Sequence[ChosenPairs], setting: StaticSetting) -> StaticTable:
    engine = MapsEngine(bench.checkpoint, setting.settings)
    sets = [PairSet(tuple(s[-1] for s in one.pairs.sources), one.pairs.targets, one.pairs.k) for one in chosen]
    layers = engine.shape.n_layers
    found = engine.score_pairs(
        sets,
        source=setting.settings.source,
        progress=lambda layer: bench.progress(f"static scores ({setting.name})", layer + 1, layers),
    )
    return {one.name: scores for one, scores in zip(chosen, found, strict=True)}


def _tables(scores: PairScores) -> dict[str, list[list[float]]]:
    return {"promotion": scores.score.tolist(), "suppression": scores.suppression.tolist()}


def _scores(stored: dict[str, Any]) -> PairScores:
    return PairScores(torch.tensor(stored["promotion"]), torch.tensor(stored["suppression"]))
