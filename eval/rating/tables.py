"""Tables of the rating studies. They stand beside the records in one database and refer to none of them:
a study's items are frozen copies, so that a deleted run does not take a finished study with it.

Times are seconds since 1970 (UTC). Links, sessions and API tokens are kept only as SHA-256 of the secret.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

PATTERN_ANSWERS = ("yes", "no")
PLAUSIBLE_ANSWERS = ("yes", "partly", "no", "cannot")
REGULAR_KINDS = ("real", "control")  # filled by k raters each; the others go to every rater


class Base(DeclarativeBase):
    """Base of the rating tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, float: Float(53)}  # noqa: RUF012


def _key(table: str) -> Any:
    return ForeignKey(f"{table}.id", ondelete="CASCADE")


class Study(Base):
    """One human study: draft, then launched (content frozen), then closed."""

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="draft")  # draft | launched | closed
    k: Mapped[int]  # raters per item
    seed: Mapped[int]
    settings: Mapped[dict[str, Any]]  # see studies.StudySettings
    content_hash: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[float]
    launched: Mapped[float | None]
    closed: Mapped[float | None]
    items: Mapped[list[Item]] = relationship(
        back_populates="study", order_by="Item.position", passive_deletes=True, cascade="all, delete-orphan"
    )


class Item(Base):
    """One screen: rows and a description as raters see them, and apart from it what they must not see."""

    __tablename__ = "items"
    __table_args__ = (UniqueConstraint("study_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(_key("studies"))
    public_id: Mapped[str] = mapped_column(String(32), unique=True)  # random: says nothing of head or kind
    kind: Mapped[str] = mapped_column(String(16))  # real | control | attention | practice
    position: Mapped[int]
    content: Mapped[dict[str, Any]]  # rows, description: all that a rater sees
    content_hash: Mapped[str] = mapped_column(String(64))
    origin: Mapped[dict[str, Any]]  # model, layer, head, run, describer, category, swapped_from…
    expected: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    study: Mapped[Study] = relationship(back_populates="items")


class Person(Base):
    """A rater of one study, a judge (a program that rates), or a lead."""

    __tablename__ = "people"
    __table_args__ = (UniqueConstraint("study_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int | None] = mapped_column(_key("studies"))
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(16))  # rater | judge | lead
    judge: Mapped[str | None] = mapped_column(String(200))  # what kind of program, for judges
    start_key: Mapped[int] = mapped_column(default=0)  # where in the order of slots this rater begins
    instructed: Mapped[float | None]  # when the instructions were confirmed
    created: Mapped[float]


class Invite(Base):
    """A personal link: opens once; later only together with the resume code shown at the first use."""

    __tablename__ = "invites"

    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(_key("people"))
    link_hash: Mapped[str] = mapped_column(String(64), unique=True)
    resume_hash: Mapped[str | None] = mapped_column(String(64))  # of link and code together
    expires: Mapped[float]
    used: Mapped[float | None]


class SignIn(Base):
    """A signed-in browser."""

    __tablename__ = "sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(_key("people"))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    expires: Mapped[float]


class ApiToken(Base):
    """A token for the JSON API with its scopes."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[Any]]
    expires: Mapped[float | None]
    created: Mapped[float]


class Slot(Base):
    """One of the k places of an item; made at launch, taken under a lease, done once rated."""

    __tablename__ = "slots"
    __table_args__ = (
        UniqueConstraint("item_id", "n"),
        UniqueConstraint("study_id", "item_id", "rater_id"),
        Index("ix_slots_order", "study_id", "state", "order_key"),
        Index("ix_slots_rater", "rater_id", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(_key("studies"))
    item_id: Mapped[int] = mapped_column(_key("items"))
    n: Mapped[int]
    regular: Mapped[bool]  # False for practice and attention, which every rater gets
    state: Mapped[str] = mapped_column(String(16))  # free | reserved | leased | done | skipped
    rater_id: Mapped[int | None] = mapped_column(_key("people"))
    order_key: Mapped[int]
    leased: Mapped[float | None]
    lease_expires: Mapped[float | None]
    item: Mapped[Item] = relationship()


class Rating(Base):
    """The current answer of one rater on one item; its history is in rating_versions."""

    __tablename__ = "ratings"
    __table_args__ = (UniqueConstraint("item_id", "rater_id"), Index("ix_ratings_study", "study_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(_key("studies"))
    item_id: Mapped[int] = mapped_column(_key("items"))
    rater_id: Mapped[int] = mapped_column(_key("people"))
    pattern: Mapped[str | None] = mapped_column(String(16))
    plausible: Mapped[str | None] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(Text, default="")
    skip_reason: Mapped[str | None] = mapped_column(Text)
    counted: Mapped[bool] = mapped_column(default=True)  # False: came after the lease was given away
    version: Mapped[int] = mapped_column(default=1)
    created: Mapped[float]
    updated: Mapped[float]
    item: Mapped[Item] = relationship()
    rater: Mapped[Person] = relationship()


class RatingVersion(Base):
    """Every answer ever given, the current one included."""

    __tablename__ = "rating_versions"
    __table_args__ = (UniqueConstraint("rating_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rating_id: Mapped[int] = mapped_column(_key("ratings"))
    version: Mapped[int]
    answer: Mapped[dict[str, Any]]
    at: Mapped[float]


class Draft(Base):
    """What stands in a form that is not sent yet."""

    __tablename__ = "drafts"
    __table_args__ = (UniqueConstraint("item_id", "rater_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(_key("items"))
    rater_id: Mapped[int] = mapped_column(_key("people"))
    answer: Mapped[dict[str, Any]]
    at: Mapped[float]


class Adjudication(Base):
    """The lead's verdict on an item whose raters disagree."""

    __tablename__ = "adjudications"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(_key("items"), unique=True)
    verdict: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(Text, default="")
    by: Mapped[str] = mapped_column(String(100))
    at: Mapped[float]


class Event(Base):
    """The audit trail: who did what when. Rows are only ever added."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_study", "study_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int | None] = mapped_column(_key("studies"))
    item_id: Mapped[int | None] = mapped_column(_key("items"))
    who: Mapped[str] = mapped_column(String(100))
    what: Mapped[str] = mapped_column(String(40))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    at: Mapped[float]
