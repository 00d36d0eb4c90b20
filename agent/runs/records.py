"""Tables of the records: models, runs, heads with mappings, descriptions, tests, scores, relation scores, search terms.

Times are seconds since 1970 (UTC). Free text from models goes through `storable`, since PostgreSQL refuses
NUL bytes; raw replies are kept exactly, as JSON strings.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

STATUSES = ("ok", "unclear", "failed")


def storable(text: str) -> str:
    """`text` without what a text column cannot hold: NUL shows as U+2400, lone surrogates as U+FFFD."""
    return text.replace("\x00", "␀").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Base(DeclarativeBase):
    """Base of the record tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, float: Float(53)}  # noqa: RUF012


class ModelRecord(Base):
    """A checkpoint, by the content hash of its files."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(String(128), unique=True)
    location: Mapped[str] = mapped_column(Text, default="")
    n_layers: Mapped[int]
    n_heads: Mapped[int]
    n_value_heads: Mapped[int]
    d_model: Mapped[int]
    d_head: Mapped[int]
    vocab_size: Mapped[int]
    created: Mapped[float]
    runs: Mapped[list[RunRecord]] = relationship(back_populates="model", cascade="all, delete-orphan")


class RunRecord(Base):
    """One pass over heads with one identity (`agent.runs.identity.RunIdentity`)."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(String(64), unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    settings: Mapped[dict[str, Any]]  # engine settings, prompt hash, describer and its settings
    describer: Mapped[str] = mapped_column(String(200))
    prompt_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))  # running | stopped | finished
    started: Mapped[float]
    finished: Mapped[float | None]
    model: Mapped[ModelRecord] = relationship(back_populates="runs")


class HeadRecord(Base):
    """One head of one run: its claim, and its mapping once computed."""

    __tablename__ = "heads"
    __table_args__ = (
        UniqueConstraint("run_id", "layer", "head"),
        Index("ix_heads_claim", "run_id", "state", "claim_expires"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    layer: Mapped[int]
    head: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), default="waiting")  # waiting | claimed | done
    claimed_by: Mapped[str | None] = mapped_column(String(200))
    claim_expires: Mapped[float | None]
    rows: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    suppressed_rows: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    held_out_rows: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    same_tokens: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    constant_part: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    undertrained: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    parts: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    attention: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # its numbers
    attended: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)  # its words
    attention_kinds: Mapped[str] = mapped_column(Text, default="", server_default="")  # one a line
    max_salience: Mapped[float | None]
    n_terms: Mapped[int] = mapped_column(default=0)  # search terms read or promoted, for similarity
    description: Mapped[DescriptionRecord | None] = relationship(
        back_populates="head", cascade="all, delete-orphan", passive_deletes=True
    )


class DescriptionRecord(Base):
    """What a describer said of a head: `ok`, `unclear` or `failed`; a failure is a reason, never a text."""

    __tablename__ = "descriptions"

    id: Mapped[int] = mapped_column(primary_key=True)
    head_id: Mapped[int] = mapped_column(ForeignKey("heads.id", ondelete="CASCADE"), unique=True)
    status: Mapped[str] = mapped_column(String(16))
    operation: Mapped[str] = mapped_column(Text, default="")  # short label
    category: Mapped[str | None] = mapped_column(String(100))
    input_strings: Mapped[str] = mapped_column(Text, default="")  # one sentence on what it reads
    observed_pattern: Mapped[str] = mapped_column(Text, default="")  # one sentence on what it maps that to
    confidence: Mapped[float] = mapped_column(default=0.0)
    reasoning: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[str] = mapped_column(Text, default="")  # why unclear or failed
    raw_reply: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    claims: Mapped[list[Any]] = mapped_column(default=list)
    retrieved: Mapped[list[Any]] = mapped_column(default=list)  # known operations with their similarity
    provenance: Mapped[dict[str, Any]] = mapped_column(default=dict)
    operations: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)  # that tests support
    # casefolded, one operation a line, its other names behind it, each behind a tab
    operation_names: Mapped[str] = mapped_column(Text, default="", server_default="")
    search_text: Mapped[str] = mapped_column(Text, default="")  # casefolded, for search
    trace: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)  # how it was found
    created: Mapped[float]
    head: Mapped[HeadRecord] = relationship(back_populates="description")
    test: Mapped[TestRecord | None] = relationship(
        back_populates="description", cascade="all, delete-orphan", passive_deletes=True
    )
    scores: Mapped[list[DescriptionScoreRecord]] = relationship(
        back_populates="description",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by="DescriptionScoreRecord.id",
    )


class TestRecord(Base):
    """How a description did on tokens that its describer never saw (`agent.results.outcomes.TestResult`)."""

    __test__ = False  # not a pytest class
    __tablename__ = "tests"

    id: Mapped[int] = mapped_column(primary_key=True)
    description_id: Mapped[int] = mapped_column(ForeignKey("descriptions.id", ondelete="CASCADE"), unique=True)
    verdict: Mapped[str] = mapped_column(String(40))
    score: Mapped[float | None]  # phi of the head on the generated pairs
    percentile: Mapped[float | None]  # 0 … 100, among the other heads of the model
    n: Mapped[int | None]  # pairs
    held_out_k: Mapped[int | None]
    held_out_n: Mapped[int | None]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    tested_rows: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    description: Mapped[DescriptionRecord] = relationship(back_populates="test")


class DescriptionScoreRecord(Base):
    """One automatic score of a description by one scorer; settings_hash says by which judge and on which questions."""

    __tablename__ = "description_scores"
    __table_args__ = (UniqueConstraint("description_id", "settings_hash", "scorer"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    description_id: Mapped[int] = mapped_column(ForeignKey("descriptions.id", ondelete="CASCADE"))
    settings_hash: Mapped[str] = mapped_column(String(64))
    judge: Mapped[str] = mapped_column(String(200))
    scorer: Mapped[str] = mapped_column(String(40))
    score: Mapped[float | None]  # 0 … 1; None where it could not be scored
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int]
    swapped: Mapped[float | None]  # of another head's description on the same questions
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[float]
    description: Mapped[DescriptionRecord] = relationship(back_populates="scores")


class RelationScoreRecord(Base):
    """phi_R of one head, and the same on -M; settings_hash says with which settings they were computed.

    What phi is: docs/method.md, "Operation to heads: the relation score".
    """

    __tablename__ = "relation_scores"
    __table_args__ = (
        UniqueConstraint("model_id", "settings_hash", "relation", "layer", "head"),
        Index("ix_relation_scores_head", "model_id", "layer", "head"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    settings_hash: Mapped[str] = mapped_column(String(64))
    source: Mapped[str | None] = mapped_column(String(40))  # "auto": the best of all; None: stored before 0004
    relation: Mapped[str] = mapped_column(String(100))
    category: Mapped[str] = mapped_column(String(100))
    layer: Mapped[int]
    head: Mapped[int]
    score: Mapped[float]
    suppression: Mapped[float]
    k: Mapped[int]
    n_pairs: Mapped[int]


class SearchTermRecord(Base):
    """Which head reads (`source`), promotes (`target`) or suppresses a token, by its folded text."""

    __tablename__ = "search_terms"
    __table_args__ = (Index("ix_search_terms_lookup", "run_id", "term", "side", "head_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    head_id: Mapped[int] = mapped_column(ForeignKey("heads.id", ondelete="CASCADE"), index=True)
    side: Mapped[str] = mapped_column(String(12))
    term: Mapped[str] = mapped_column(String(120))
    best_rank: Mapped[int]
