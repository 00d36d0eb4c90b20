"""Results of the engine, as frozen dataclasses.

Scores are raw entries of M (no unit); salience is the ratio ||x W_V W_O|| / ||x|| (docs/method.md, "Head to
operation: salient operations").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
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
class RowsView:
    """Rows of a head under another reading than its own: `reading` names it for people."""

    reading: str
    rows: tuple[MappingRow, ...]


@dataclass(frozen=True, slots=True)
class ConstantPart:
    """What a head writes whatever token it reads: the mean row of M over a sample of ordinary tokens."""

    share: float  # its length by the mean length of what the salient tokens make the head write; no unit
    targets: tuple[ScoredToken, ...]  # that it promotes, strongest first


@dataclass(frozen=True, slots=True)
class PartTest:
    """Whether words that had no part in finding a group are mapped to its targets, and other words are not.

    A hit is a row that has one of the targets among its 10 strongest, the constant part taken off.
    """

    hits: int
    n: int  # words of the group
    other_hits: int
    n_others: int  # words outside it
    p: float  # Fisher's exact test, one-sided, by the number of parts that were looked at (Bonferroni)


@dataclass(frozen=True, slots=True)
class HeadPart:
    """Words for which a head writes alike, beyond its constant part (`maps_engine.parts`).

    Of the rows the constant part is taken off; those that stand most for the part come first.
    """

    share: float  # of the squared length of all that the head writes beyond its constant part, over the words read
    along: float  # of the squared length of what it writes for them: 1 where all are mapped to the same
    size: int  # words that belong to it, of those that found it
    targets: tuple[ScoredToken, ...]  # that its words have in common, strongest first
    rows: tuple[MappingRow, ...]
    held_out_rows: tuple[MappingRow, ...] = ()  # of words that had no part in finding it
    test: PartTest | None = None
    # what claims for parts are made of; neither is stored
    members: frozenset[int] = field(default=frozenset(), compare=False)  # ids of all its words
    common: tuple[int, ...] = field(default=(), compare=False)  # ids of the 10 strongest targets in common


@dataclass(frozen=True, slots=True)
class ClassFit:
    """Keys of a class that are preferred, measured on words that had no part in finding it (`maps_engine.qk`)."""

    reads: str | None  # class of the queries that prefer them; None: all queries do
    seeks: str  # class of the keys
    logit: float  # mean above that of all words, in nats
    effect: float  # the same in standard deviations over words
    strength: float  # the effect times the square root of how many words there are, which null heads are held against


@dataclass(frozen=True, slots=True)
class Feed:
    """An earlier head that feeds a head (`maps_engine.qk.composition`)."""

    part: str  # what of the head it feeds: "K" keys, "Q" queries, "V" values
    layer: int
    head: int
    strength: float  # 1 is that of random directions
    kinds: tuple[str, ...]  # of the feeding head's own attention


@dataclass(frozen=True, slots=True)
class HeadAttention:
    """What a head attends to (`maps_engine.qk`): shares of its attention in made-up texts, and words that fit."""

    layer: int
    head: int
    previous: float  # mean attention, 0 to 1, to the token before
    itself: float
    first: float  # to the first token of the text
    duplicate: float  # to the same word, read before
    induction: float  # to what followed the same word, read before
    profile: tuple[float, ...]  # to the token 0, 1, 2, ... places before
    attends: tuple[MappingRow, ...] = ()  # queries that choose most among keys, with those; salience and scores in nats
    popular: tuple[ScoredToken, ...] = ()  # keys that all queries prefer, in nats above the mean key
    avoided: tuple[ScoredToken, ...] = ()  # keys that all queries avoid, most first
    fits: tuple[ClassFit, ...] = ()  # strongest first
    fed_by: tuple[Feed, ...] = ()  # keys, queries, values; strongest first

    @property
    def reach(self) -> float:
        """Mean distance in tokens, over what is not paid to the first token."""
        whole = sum(self.profile)
        return sum(offset * share for offset, share in enumerate(self.profile)) / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """All that decides the numbers of a mapping, besides the checkpoint and the head."""

    source: str = "auto"  # what `maps_engine.fitting` takes of: "residual", "first-mlp" (the paper's), "embedding"
    fold_norms: bool = False
    fold_biases: bool = False
    first_mlp_in_layer_0: bool = False
    include_special: bool = True
    top: int = 30
    targets: int = 5
    words: int | None = None  # ordinary words among which salient ones are looked for; 0: all tokens; None: by source
    lead_in: tuple[str, ...] = ("",)  # of `residual`: texts after the start of texts; X is the mean over them
    centred: bool = False  # the mean of X over the vocabulary is taken off every row, and with it what biases add to M

    def __post_init__(self) -> None:
        """Raises UserMistake for lists of no length, fewer words than none, and `centred` that is no truth value."""
        if not isinstance(self.centred, bool):  # a word such as "false" of a stored file would count as true
            raise UserMistake("centred is not true or false", got=repr(self.centred), expected="True or False")
        object.__setattr__(self, "lead_in", tuple(self.lead_in))  # JSON gives a list
        if self.source == "paper":
            object.__setattr__(self, "source", "first-mlp")
        if self.words is not None and self.words < 0:
            raise UserMistake(
                "there cannot be fewer words than none", got=self.words, expected="0 for all tokens, or more"
            )
        if self.top < 1 or self.targets < 1:
            got = f"top {self.top}, targets {self.targets}"
            raise UserMistake("nothing to list", got=got, expected="both at least 1")

    @property
    def reading(self) -> str:
        """For people: the source representation, and under `residual` what is read before each token."""
        parts = [self.source]
        if self.source == "residual":
            texts = [f"the start of texts and {text!r}" if text else "the start of texts" for text in self.lead_in]
            parts = [f"residual behind {' or '.join(texts)}"]
        parts += [f"among {self.words} ordinary words"] * bool(self.words) + ["centred"] * self.centred
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, which also make the identity of results."""
        return asdict(self) | {"lead_in": list(self.lead_in)}


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
    same_tokens: RowsView | None = None  # `rows` as the truest reading has them, where they were read under another
    constant: ConstantPart | None = None  # None where it was taken off, and for heads stored before it was known
    parts: tuple[HeadPart, ...] = ()  # largest share first; what is left is the rest
    undertrained: tuple[int, ...] = ()  # ids among the tokens above that training hardly ever saw; no evidence
    attention: HeadAttention | None = None  # None where the model's attention is not understood, and of older heads

    @property
    def source(self) -> str:
        """The source representation that the head was read through."""
        return self.settings.source

    def evidence(self, rows: tuple[MappingRow, ...]) -> tuple[MappingRow, ...]:
        """`rows` without undertrained tokens: their rows fall out, they as targets, and rows that keep no target."""
        if not self.undertrained:
            return rows
        known = (row for row in rows if row.token_id not in self.undertrained)
        trained = (replace(row, targets=self.trained(row.targets)) for row in known)
        return tuple(row for row in trained if row.targets)

    def trained(self, targets: tuple[ScoredToken, ...]) -> tuple[ScoredToken, ...]:
        """`targets` without undertrained ones."""
        return tuple(one for one in targets if one.token_id not in self.undertrained)

    def token_ids(self, *, held_out: bool) -> frozenset[int]:
        """Every token in rows, also under another reading, of constant part and parts; `held_out` rows too or not."""
        view = self.same_tokens.rows if self.same_tokens else ()
        rows = [*self.rows, *self.suppressed_rows, *view, *(row for part in self.parts for row in part.rows)]
        if held_out:
            rows += [*self.held_out_rows, *(row for part in self.parts for row in part.held_out_rows)]
        constant = self.constant.targets if self.constant else ()
        common = (one for part in self.parts for one in part.targets)
        targets = (*constant, *common, *(one for row in rows for one in row.targets))
        return frozenset(row.token_id for row in rows) | frozenset(one.token_id for one in targets)

    def of_part(self, place: int) -> HeadMapping:
        """One of its parts as if it were a head: what is read and tested of heads is read and tested of it."""
        part = self.parts[place]
        return replace(
            self, rows=part.rows, held_out_rows=part.held_out_rows, suppressed_rows=(), same_tokens=None, constant=None,
            parts=(),
        )  # fmt: skip

    @property
    def dimmed(self) -> frozenset[int]:
        """The undertrained among the tokens that pages show."""
        return self.token_ids(held_out=False) & frozenset(self.undertrained)

    def to_json(self) -> dict[str, Any]:
        """`model, layer, head, source`, all rows but held-out ones, and what is known besides, as plain JSON values."""
        whole = asdict(self)
        return {
            "model": self.model,
            "layer": self.layer,
            "head": self.head,
            "source": self.source,
            "rows": list(whole["rows"]),
            "suppressed_rows": list(whole["suppressed_rows"]),
            "same_tokens": whole["same_tokens"],
            "constant": whole["constant"],
            "parts": [
                {name: value for name, value in part.items() if name not in ("held_out_rows", "members", "common")}
                for part in whole["parts"]
            ],
            "undertrained": list(self.undertrained),
        }
