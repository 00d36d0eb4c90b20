"""What is said of a head, with the counted claims that carry it.

A description is `ok`, `unclear` or `failed`; a failure keeps its reason and the raw reply and is never a text that
pretends to be a description.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "unclear", "failed"]

# What the n of a claim are, by its kind.
_UNITS = {
    "pairs": "known pairs",
    "scored": "known pairs tried",
    "class": "words tried",
    "shared": "strongest targets, the two most frequent words left out",
    "part": "targets in common",
    "form": "rows",
    "related": "rows",
    "constant-targets": "rows",
    "rows-shown": "rows",
    "facts-shown": "facts",
    "typed": "distinct targets",
    "target-field": "distinct targets",
    "target-form": "distinct targets",
}


def counted_unit(kind: str) -> str:
    """What a claim of this kind counts: rows, known pairs, distinct targets, else distinct tokens."""
    return _UNITS.get(kind, "tokens")


@dataclass(frozen=True, slots=True)
class Claim:
    """One counted statement: it holds for `k` of `n` rows (or tokens), where chance alone gives `expected`."""

    kind: str  # "pairs" | "form" | "constant-targets" | "input-field" | "target-field" | "input-form" | …
    label: str
    k: int
    n: int
    expected: float = 0.0  # of the n, under the null named in `agent.describers.calibration`
    strength: float = 0.0  # log-likelihood ratio against that null, in nats
    examples: tuple[str, ...] = ()  # what the k are: words, or `source → target`
    lead: float = 1.0  # mean reciprocal rank of the fitting target in the k rows: 1 when it is always the strongest

    def __str__(self) -> str:
        return f"{self.label} ({self.k} of {self.n})"

    @property
    def counted(self) -> str:
        """What the `n` are: rows, known pairs, distinct targets or tokens."""
        return counted_unit(self.kind)


@dataclass(frozen=True, slots=True)
class HeadDescription:
    """What a head does, in words. `operation` is the short label; `reason` says why it is unclear or failed."""

    status: Status
    describer: str
    input_strings: str = ""
    observed_pattern: str = ""
    operation: str = ""
    confidence: float = 0.0  # 0 … 1
    reasoning: str = ""
    claims: tuple[Claim, ...] = ()
    reason: str = ""
    raw_reply: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    part: int | None = None  # the part of the head that it is about, by its place; None: the whole head

    @property
    def scored(self) -> bool:
        """Whether a part of the operation's own pairs chose it, or its describer was told of them: others test it."""
        told = any(claim.kind == "facts-shown" for claim in self.claims)
        return told or (bool(self.claims) and self.claims[0].kind in ("scored", "class", "shared", "part"))

    @property
    def by_pairs(self) -> bool:
        """Whether pairs of a known relation show it, among the rows or by their scores."""
        return bool(self.claims) and self.claims[0].kind in ("scored", "pairs")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; claims as `{kind, label, k, n, expected, strength, examples}`."""
        return asdict(self)
