"""Who asks: reads the sign-in cookie or the API token, and says what this visitor may see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request, Response

from eval.errors import NotAllowed
from eval.rating.people import SCOPES, Who, scopes_of, who_is
from eval.web.settings import WebSettings

# __Host- cookies are bound to this host, the whole path and a secure context; browsers count loopback as one.
SIGN_IN_COOKIE = "__Host-headscribe"
LINK_COOKIE = "__Host-headscribe-link"


@dataclass(frozen=True)
class Visitor:
    """The person of this request, if any, and what follows from it."""

    who: Who | None
    is_lead: bool
    may_browse: bool

    @property
    def name(self) -> str:
        return self.who.name if self.who else "lead"

    @property
    def is_rater(self) -> bool:
        return self.who is not None and self.who.role == "rater"


def settings_of(request: Request) -> WebSettings:
    """The settings that the app was made with."""
    found: WebSettings = request.app.state.settings
    return found


def visitor_of(request: Request) -> Visitor:
    """Read the cookie once per request."""
    known = getattr(request.state, "visitor", None)
    if isinstance(known, Visitor):
        return known
    settings = settings_of(request)
    secret = request.cookies.get(SIGN_IN_COOKIE, "")
    who = who_is(settings.engine, secret, now=settings.clock()) if secret else None
    is_lead = who.role == "lead" if who else not settings.accounts
    visitor = Visitor(who, is_lead, is_lead or _may_browse(settings, who))
    request.state.visitor = visitor
    return visitor


def _may_browse(settings: WebSettings, who: Who | None) -> bool:
    """Raters must stay blind until their study is closed."""
    if who is not None and who.study_id is not None:
        return who.study_state == "closed" and (settings.open_browser or not settings.accounts)
    return settings.open_browser


def need_lead(request: Request) -> Visitor:
    """Dependency: only the lead. Raises NotAllowed."""
    visitor = visitor_of(request)
    if not visitor.is_lead:
        raise NotAllowed("this page is for the lead of the study", next_step="Open your lead link first.")
    return visitor


def need_browse(request: Request) -> Visitor:
    """Dependency: who may look at heads. Raises NotAllowed."""
    visitor = visitor_of(request)
    if not visitor.may_browse:
        why = "heads are hidden while you rate" if visitor.is_rater else "sign in to look at heads"
        raise NotAllowed(why, next_step="Open your personal link." if not visitor.is_rater else None)
    return visitor


def need_rater(request: Request) -> Who:
    """Dependency: a signed-in rater. Raises NotAllowed."""
    visitor = visitor_of(request)
    if visitor.who is None or not visitor.is_rater:
        raise NotAllowed("you are not signed in as a rater", next_step="Open your personal link.")
    return visitor.who


def need_scope(scope: str) -> Callable[[Request], None]:
    """Dependency of the JSON API: a token with `scope`, or a signed-in (or local) lead. Raises NotAllowed."""
    assert scope in SCOPES

    def check(request: Request) -> None:
        given = request.headers.get("authorization", "")
        settings = settings_of(request)
        if given:
            token = given.removeprefix("Bearer ").strip()
            scopes = scopes_of(settings.engine, token, now=settings.clock())
            if scopes is None or scope not in scopes:
                raise NotAllowed("this token does not allow that", expected=f"a valid token with scope {scope}")
            return
        visitor = visitor_of(request)
        if not (visitor.is_lead or (scope == "read" and visitor.may_browse)):
            raise NotAllowed("sign in or send a token", expected=f"Authorization: Bearer … with scope {scope}")

    return check


def set_cookie(response: Response, name: str, value: str, *, days: float) -> None:
    """A cookie that only our own pages on this host send back."""
    seconds = int(days * 86400)
    response.set_cookie(name, value, max_age=seconds, secure=True, httponly=True, samesite="lax", path="/")


def drop_cookie(response: Response, name: str) -> None:
    """Make the browser forget it."""
    response.delete_cookie(name, secure=True, httponly=True, samesite="lax", path="/")
