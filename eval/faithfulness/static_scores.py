"""Scores read from weights (static scores) under each of the engine's settings, kept in the folder of results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from eval.faithfulness.bench import Bench
from eval.faithfulness.running.pair_choice import ChosenPairs
from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel, UserMistake
from maps_engine.ov.pair_scores import PairScores, PairSet
from maps_engine.ov.residuals import lead_in_ids
from maps_engine.results import EngineSettings

LONGEST_TEXT = 60  # characters of a lead-in that a name shows


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
            **({"centred": True} if one.centred else {}),
        }

    @property
    def file_name(self) -> str:
        """Safe on every disk, and of its own for every lead-in, of which the name for people does not show all."""
        if self._has_lead_in:
            return f"residual-behind-{_digest(self.to_json())}"
        return self.name.replace(", ", "+").replace(" ", "-")

    @property
    def stored_as(self) -> str:
        """Where in the folder of results the scores under this setting are."""
        return f"static/{self.file_name}"

    @property
    def _has_lead_in(self) -> bool:
        return self.settings.source == "residual" and self.settings.lead_in != ("",)


def _setting(name: str, source: str, **options: Any) -> StaticSetting:
    return StaticSetting(name, EngineSettings(source=source, **options))


PAPER = _setting("paper", "first-mlp")
RESIDUAL = _setting("residual", "residual")
COMPARED = (
    PAPER,
    _setting("first-mlp in layer 0 too", "first-mlp", first_mlp_in_layer_0=True),
    _setting("first-mlp, norms", "first-mlp", fold_norms=True),
    _setting("embedding", "embedding"),
    _setting("embedding, norms", "embedding", fold_norms=True),
    _setting("first-mlp, norms, centred", "first-mlp", fold_norms=True, centred=True),
    RESIDUAL,
    _setting("residual, centred", "residual", centred=True),
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
    read = _behind(settings.lead_in) if settings.source == "residual" else settings.source
    parts = [read, *(name for name, on in StaticSetting("", settings).to_json().items() if on is True)]
    return StaticSetting(", ".join(parts), settings)


def _behind(texts: Sequence[str]) -> str:
    """`residual behind 'See also'`; a long text is cut and told from others by its digest."""
    if len(texts) > 1:
        return f"residual, mean of {len(texts)} lead-ins"
    (text,) = texts
    if not text:
        return RESIDUAL.name
    if len(text) <= LONGEST_TEXT:
        return f"residual behind {text!r}"
    return f"residual behind {text[:LONGEST_TEXT]!r}… ({_digest(text)})"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def lead_in_settings(bench: Bench, texts: Sequence[str]) -> tuple[StaticSetting, ...]:
    """`residual` behind each of `texts`, and as the mean over all where there are several; doubles count once.

    Raises UserMistake for a text that the model's vocabulary cannot express.
    """
    for text in texts:
        if any("\ud800" <= one <= "\udfff" for one in text):  # what a terminal makes of bytes that are no UTF-8
            raise UserMistake("the lead-in is no text", got=repr(text), expected="characters in UTF-8")
        lead_in_ids(bench.checkpoint.vocabulary, text)
    different = tuple(dict.fromkeys(texts))
    wanted: list[tuple[str, ...]] = [
        (text,) for text in different if text
    ]  # behind nothing is the row that is compared anyway
    if len(different) > 1:
        wanted.append(different)
    return tuple(named_setting(replace(RESIDUAL.settings, lead_in=one)) for one in wanted)


def has_biases(bench: Bench) -> bool:
    """Whether folding biases changes anything: a value bias or a bias of the attention's norm."""
    weights = bench.checkpoint.weights
    norm = weights.attention_norm(0)
    return weights.attention(0).value_bias is not None or (norm is not None and norm.bias is not None)


def compared_settings(bench: Bench, lead_ins: Sequence[str] = ()) -> tuple[StaticSetting, ...]:
    """The settings that this model can be read with; those that fold biases only where it has biases.

    lead_ins: texts behind which `residual` is read as well. Raises UserMistake for one that cannot be.
    """
    settings = COMPARED + lead_in_settings(bench, lead_ins) + (WITH_BIASES if has_biases(bench) else ())
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
    name = f"{store}/{setting.file_name}"
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
