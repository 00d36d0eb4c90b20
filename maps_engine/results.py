"""Results of the engine, as frozen dataclasses.

Scores are raw entries of M (no unit); salience is the ratio ||x W_V W_O|| / ||x|| (docs/method.md, "Head to
operation: salient operations").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from maps_engine.errors import UserMistake


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One entry of a row of M: target token and its score."""

    token: str
    token_id: int
    score: float


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One salient token and the `targets` it is mapped to, strongest first."""

    token: str
    token_id: int
    salience: float
    targets: tuple[ScoredToken, ...]


@dataclass(frozen=True, slots=True)
class SourceEvidence:
    """How well a head, or a model, reads under one source representation."""

    source: str
    score: float  # of a head: its best probe score; of a model: share of heads that read
    operation: str | None = None  # the probe that scored best

    def __str__(self) -> str:
        return f"{self.source} {self.score:.2f}" + (f" {self.operation}" if self.operation else "")


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The source representation that was taken, why, and the runners-up (best first)."""

    source: str
    decided_by: str  # "head" | "model" | "default" | "user"
    evidence: tuple[SourceEvidence, ...] = ()

    @property
    def why(self) -> str:
        """For people: `chosen by head; embedding 0.62 copying, first-mlp 0.10`; empty where the user asked for it."""
        if self.decided_by == "user":
            return ""
        return "; ".join([f"chosen by {self.decided_by}", *filter(None, [", ".join(map(str, self.evidence))])])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceChoice:
        """The inverse of `asdict`."""
        evidence = tuple(SourceEvidence(**one) for one in value["evidence"])
        return cls(value["source"], value["decided_by"], evidence)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """All that decides the numbers of a mapping, besides the checkpoint and the head."""

    source: str  # "auto" | "embedding" | "first-mlp" | "first-block" | "residual"; a finished mapping never says "auto"
    fold_norms: bool = False
    fold_biases: bool = False
    first_mlp_in_layer_0: bool = False
    include_special: bool = True
    top: int = 30
    targets: int = 5
    lead_in: tuple[str, ...] = ("",)  # of `residual`: texts after the start of texts; X is the mean over them
    centred: bool = False  # the mean of X over the vocabulary is taken off every row, and with it what biases add to M

    def __post_init__(self) -> None:
        """Raises UserMistake for lists of no length, and for `centred` that is neither true nor false."""
        if not isinstance(self.centred, bool):  # a word such as "false" of a stored file would count as true
            raise UserMistake("centred is not true or false", got=repr(self.centred), expected="True or False")
        object.__setattr__(self, "lead_in", tuple(self.lead_in))  # JSON gives a list
        if self.top < 1 or self.targets < 1:
            got = f"top {self.top}, targets {self.targets}"
            raise UserMistake("nothing to list", got=got, expected="both at least 1")

    @property
    def reading(self) -> str:
        """For people: the source representation, and under `residual` what is read before each token."""
        texts = [f"the start of texts and {text!r}" if text else "the start of texts" for text in self.lead_in]
        behind = f" behind {' or '.join(texts)}" if self.source == "residual" else ""
        return f"{self.source}{behind}{', centred' if self.centred else ''}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, which also make the identity of results.

        The lead-in and centring stand there only where they decide something: results made before them keep their
        identity.
        """
        values = asdict(self) | {"lead_in": list(self.lead_in)}
        silent = {"lead_in": self.source != "residual", "centred": not self.centred}
        return {name: value for name, value in values.items() if not silent.get(name)}


@dataclass(frozen=True, slots=True)
class HeadMapping:
    """What a head does to its most salient tokens."""

    model: str
    fingerprint: str
    layer: int
    head: int
    settings: EngineSettings
    rows: tuple[MappingRow, ...]
    suppressed_rows: tuple[MappingRow, ...]  # same sources, the most negative entries of their rows
    held_out_rows: tuple[MappingRow, ...] = ()  # salience ranks after `rows`; a test, never shown to a describer
    source_choice: SourceChoice | None = None

    @property
    def source(self) -> str:
        """The source representation that the head was read through."""
        return self.settings.source

    def to_json(self) -> dict[str, Any]:
        """`model, layer, head, source, source_choice, rows, suppressed_rows` as plain JSON values."""
        whole = asdict(self)
        return {
            "model": self.model,
            "layer": self.layer,
            "head": self.head,
            "source": self.source,
            "source_choice": whole["source_choice"],
            "rows": list(whole["rows"]),
            "suppressed_rows": list(whole["suppressed_rows"]),
        }
