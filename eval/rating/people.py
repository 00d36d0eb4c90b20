"""Raters and leads: personal links, resume codes, signed-in browsers, API tokens.

There are no passwords and no default account. A personal link opens once; its holder then gets a resume code, and
link and code together open it again on another device. The database holds only SHA-256 of 256-bit secrets (the
code is hashed together with the link), so that a copy of it opens nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field

from sqlalchemy import Engine, bindparam, delete, func, select
from sqlalchemy.orm import Session

from agent.runs.database import reading, writing
from agent.runs.records import storable
from eval.errors import BadStudy, NotAllowed
from eval.rating.store import add_event
from eval.rating.studies import get_study, reserve_for
from eval.rating.tables import ApiToken, Invite, Person, SignIn, Study

DAY = 86_400.0
INVITE_DAYS, SIGN_IN_DAYS = 60.0, 30.0
LEAD_SIGN_IN_DAYS = 1.0
SCOPES = ("read", "describe", "export")
_CODE_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class Who:
    """A signed-in person."""

    person_id: int
    name: str
    role: str  # rater | lead
    study_id: int | None
    study_state: str | None = field(default=None, compare=False)  # draft | launched | closed, of a rater's study


@dataclass(frozen=True)
class Redeemed:
    """What the browser gets for a link: the secret of its sign-in; a resume code at the first use."""

    who: Who
    secret: str
    resume_code: str | None


def secret_hash(*parts: str) -> str:
    """SHA-256 (hex) of the parts, unambiguous."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()


def invite(
    engine: Engine,
    *,
    study_id: int | None,
    name: str | None = None,
    role: str = "rater",
    by: str = "lead",
    now: float | None = None,
) -> tuple[str, str]:
    """(name, link token) of a new rater of `study_id`, or of a lead. The token is not kept anywhere.

    Inviting a name again gives the same person a fresh link and ends the old ones and all sign-ins.
    """
    when = time.time() if now is None else now
    if (role == "rater") != (study_id is not None):
        raise BadStudy("a rater belongs to one study, a lead to none", got=role)
    with writing(engine) as session:
        person = _find_or_add(session, study_id, name, role, when)
        for table in (Invite, SignIn):
            session.execute(delete(table).where(table.person_id == person.id))
        token = secrets.token_urlsafe(32)
        expires = when + INVITE_DAYS * DAY
        session.add(Invite(person_id=person.id, link_hash=secret_hash(token), expires=expires))
        add_event(session, "invited", who=by, study_id=study_id, at=when, name=person.name, role=role)
        return person.name, token


def _find_or_add(session: Session, study_id: int | None, name: str | None, role: str, when: float) -> Person:
    study = get_study(session, study_id, lock=True) if study_id is not None else None
    if study is not None and study.state == "closed":
        raise BadStudy("the study is closed", got=study.name)
    count = session.scalar(select(func.count(Person.id)).where(Person.study_id == study_id)) or 0
    wanted = storable(name or f"R{count + 1}").strip()[:100]
    query = select(Person).where(Person.name == wanted, Person.role == role)
    same = Person.study_id.is_(None) if study_id is None else Person.study_id == study_id
    found = session.scalar(query.where(same))
    if found is not None:
        return found
    person = Person(study_id=study_id, name=wanted, role=role, created=when)
    person.start_key = secrets.randbelow(1_000_000)
    session.add(person)
    session.flush()
    if study is not None:
        reserve_for(session, study, person)
    return person


def whose_link(engine: Engine, token: str, *, now: float | None = None) -> tuple[str, bool] | None:
    """(name, used before) of a valid link, or None: unknown, replaced or expired."""
    when = time.time() if now is None else now
    with reading(engine) as session:
        query = select(Person.name, Invite.used).join(Invite, Invite.person_id == Person.id)
        row = session.execute(query.where(Invite.link_hash == secret_hash(token), Invite.expires > when)).first()
        return None if row is None else (row[0], row[1] is not None)


def redeem(engine: Engine, token: str, *, code: str = "", now: float | None = None) -> Redeemed:
    """Sign a browser in: at the first use of a link alone, later with its resume code. Raises NotAllowed."""
    when = time.time() if now is None else now
    with writing(engine) as session:
        query = select(Invite).where(Invite.link_hash == secret_hash(token), Invite.expires > when)
        link = session.scalar(query.with_for_update())
        if link is None:
            raise NotAllowed("this link is not valid (any more)", next_step="Ask the study's lead for a new one.")
        fresh = None
        if link.used is None:
            fresh = _new_code()
            link.used, link.resume_hash = when, secret_hash(token, fresh)
        elif not secrets.compare_digest(link.resume_hash or "", secret_hash(token, _plain(code))):
            raise NotAllowed(
                "this link was used before, and the resume code does not fit it",
                next_step="Enter the code that was shown at the first use, or ask the lead for a new link.",
            )
        person = session.get_one(Person, link.person_id)
        secret = _sign_in(session, person, when)
        add_event(session, "signed in", who=person.name, study_id=person.study_id, at=when)
        shown = None if fresh is None else "-".join((fresh[:4], fresh[4:8], fresh[8:]))
        return Redeemed(_who(person), secret, shown)


def _new_code() -> str:
    return "".join(secrets.choice(_CODE_LETTERS) for _ in range(12))


def _plain(code: str) -> str:
    return "".join(letter for letter in code.lower() if letter.isalnum())


def _sign_in(session: Session, person: Person, when: float) -> str:
    secret = secrets.token_urlsafe(32)
    days = LEAD_SIGN_IN_DAYS if person.role == "lead" else SIGN_IN_DAYS
    session.add(SignIn(person_id=person.id, secret_hash=secret_hash(secret), expires=when + days * DAY))
    return secret


def _who(person: Person) -> Who:
    return Who(person.id, person.name, person.role, person.study_id)


_WHO_IS = (
    select(Person.id, Person.name, Person.role, Person.study_id, Study.state)
    .join(SignIn, SignIn.person_id == Person.id)
    .outerjoin(Study, Study.id == Person.study_id)
    .where(SignIn.secret_hash == bindparam("secret"), SignIn.expires > bindparam("when"))
)


def who_is(engine: Engine, secret: str, *, now: float | None = None) -> Who | None:
    """The person behind a browser's secret, or None."""
    when = time.time() if now is None else now
    with reading(engine) as session:
        row = session.execute(_WHO_IS, {"secret": secret_hash(secret), "when": when}).first()
    return None if row is None else Who(*row)


def sign_out(engine: Engine, secret: str) -> None:
    """Forget this browser."""
    with writing(engine) as session:
        session.execute(delete(SignIn).where(SignIn.secret_hash == secret_hash(secret)))


def new_api_token(
    engine: Engine, *, name: str, scopes: tuple[str, ...], days: float | None = 90.0, now: float | None = None
) -> str:
    """A token for the JSON API; it is shown once and kept only as a hash. Raises NotAllowed for other scopes."""
    when = time.time() if now is None else now
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise NotAllowed("unknown scope", got=", ".join(unknown) or "none", expected=", ".join(SCOPES))
    token = "hs_" + secrets.token_urlsafe(32)
    expires = None if days is None else when + days * DAY
    with writing(engine) as session:
        session.add(
            ApiToken(
                name=storable(name)[:100],
                secret_hash=secret_hash(token),
                scopes=sorted(set(scopes)),
                expires=expires,
                created=when,
            )
        )
        add_event(session, "token made", who=name, at=when, scopes=sorted(set(scopes)))
    return token


def scopes_of(engine: Engine, token: str, *, now: float | None = None) -> frozenset[str] | None:
    """The scopes of a valid API token, or None."""
    when = time.time() if now is None else now
    with reading(engine) as session:
        found = session.scalar(select(ApiToken).where(ApiToken.secret_hash == secret_hash(token)))
        if found is None or (found.expires is not None and found.expires <= when):
            return None
        return frozenset(found.scopes)
