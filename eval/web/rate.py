"""Pages of a rater: personal link, instructions, rating screen, finish, my ratings. All work without JavaScript."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from eval.errors import NotAllowed
from eval.rating.people import SIGN_IN_DAYS, Who, redeem, sign_out, whose_link
from eval.rating.ratings import NOTE_LENGTH, Answer, Saved, own_rating, own_ratings, save, save_and_next, save_draft
from eval.rating.slots import Screen, confirm_instructions, next_screen
from eval.web.identity import (
    LINK_COOKIE,
    SIGN_IN_COOKIE,
    drop_cookie,
    need_rater,
    set_cookie,
    settings_of,
    visitor_of,
)
from eval.web.pages import is_fragment, page

router = APIRouter(include_in_schema=False)
Rater = Annotated[Who, Depends(need_rater)]
Text = Annotated[str, Form(max_length=20_000)]


@router.get("/join/{token}")
def open_link(request: Request, token: str) -> Response:
    """Move the secret out of the address into a short-lived cookie; nothing is used up by looking."""
    response = RedirectResponse("/join", 303)
    set_cookie(response, LINK_COOKIE, token[:200], days=1 / 24)
    return response


@router.get("/join")
def join_page(request: Request) -> Response:
    """Ask before signing in: link scanners only look."""
    settings = settings_of(request)
    token = request.cookies.get(LINK_COOKIE, "")
    known = whose_link(settings.engine, token, now=settings.clock()) if token else None
    if known is None:
        raise NotAllowed("this link is not valid (any more)", next_step="Ask the lead of the study for a new one.")
    return page(request, "join.html", name=known[0], used=known[1], error="")


@router.post("/join")
def join(request: Request, code: Annotated[str, Form(max_length=100)] = "") -> Response:
    """Sign in: the first use needs the link alone, later ones the resume code too."""
    settings = settings_of(request)
    token = request.cookies.get(LINK_COOKIE, "")
    address = request.client.host if request.client else "?"
    limit = request.app.state.link_limit
    if limit.wait(address, count=False):
        return page(request, "message.html", status=429, title="Too many tries", text="Please wait a minute.")
    try:
        got = redeem(settings.engine, token, code=code, now=settings.clock())
    except NotAllowed as error:
        limit.wait(address)
        known = whose_link(settings.engine, token, now=settings.clock()) if token else None
        if known is None:
            raise
        return page(request, "join.html", status=403, name=known[0], used=True, error=error.what)
    target = "/lead" if got.who.role == "lead" else "/rate"
    if got.resume_code is None:
        response: Response = RedirectResponse(target, 303)
    else:
        response = page(request, "joined.html", who=got.who, code=got.resume_code, target=target)
    set_cookie(response, SIGN_IN_COOKIE, got.secret, days=SIGN_IN_DAYS)
    drop_cookie(response, LINK_COOKIE)
    return response


@router.post("/sign-out")
def leave(request: Request) -> Response:
    """End this browser's sign-in."""
    sign_out(settings_of(request).engine, request.cookies.get(SIGN_IN_COOKIE, ""))
    response = RedirectResponse("/", 303)
    drop_cookie(response, SIGN_IN_COOKIE)
    return response


@router.get("/rate")
def rating_page(request: Request, who: Rater) -> Response:
    """The next item, or instructions, or the finish page."""
    return _screen(request, who)


def _screen(request: Request, who: Who, **values: Any) -> Response:
    settings = settings_of(request)
    return _show(request, next_screen(settings.engine, who.person_id, now=settings.clock()), **values)


def _show(
    request: Request,
    screen: Screen,
    *,
    saved: Saved | None = None,
    errors: dict[str, str] | None = None,
    given: Answer | None = None,
    status: int = 200,
) -> Response:
    return page(
        request,
        "_screen.html" if is_fragment(request) else "rate.html",
        status=status,
        s=screen,
        saved=saved,
        errors=errors or {},
        given=given or _from_draft(screen.draft),
        note_length=NOTE_LENGTH,
    )


def _from_draft(draft: dict[str, str] | None) -> Answer:
    d = draft or {}
    return Answer(d.get("pattern"), d.get("plausible"), d.get("note", ""), d.get("skip_reason"))


@router.post("/rate/instructions")
def instructions_read(request: Request, who: Rater) -> Response:
    """Go on to the first item."""
    confirm_instructions(settings_of(request).engine, who.person_id, now=settings_of(request).clock())
    return RedirectResponse("/rate", 303)


@router.get("/rate/mine")
def my_ratings(request: Request, who: Rater) -> Response:
    """Everything this rater said, to look at and to change."""
    return page(request, "mine.html", ratings=own_ratings(settings_of(request).engine, who.person_id))


@router.get("/rate/mine/{item}")
def edit_page(request: Request, who: Rater, item: str) -> Response:
    """One own rating to change."""
    own = own_rating(settings_of(request).engine, who.person_id, item)
    return page(request, "edit.html", own=own, errors={}, given=own.answer, note_length=NOTE_LENGTH)


@router.post("/rate/mine/{item}")
def edit(
    request: Request, who: Rater, item: str, pattern: Text = "", plausible: Text = "", note: Text = ""
) -> Response:
    """Keep the changed answer; the old one stays in the history."""
    settings = settings_of(request)
    answer = Answer(pattern or None, plausible or None, note)
    if errors := answer.problems():
        own = own_rating(settings.engine, who.person_id, item)
        values = {"own": own, "errors": errors, "given": answer, "note_length": NOTE_LENGTH}
        return page(request, "edit.html", status=422, **values)
    save(settings.engine, who.person_id, item, answer, now=settings.clock())
    return RedirectResponse("/rate/mine", 303)


@router.post("/rate/{item}")
def rate(
    request: Request, who: Rater, item: str, pattern: Text = "", plausible: Text = "", note: Text = ""
) -> Response:
    """Keep an answer and show the next item."""
    return _keep(request, who, item, Answer(pattern or None, plausible or None, note))


@router.post("/rate/{item}/skip")
def skip(request: Request, who: Rater, item: str, skip_reason: Text = "") -> Response:
    """Leave an item to somebody else, with a reason."""
    return _keep(request, who, item, Answer(skip_reason=skip_reason))


def _keep(request: Request, who: Who, item: str, answer: Answer) -> Response:
    settings = settings_of(request)
    if errors := answer.problems():
        return _screen(request, who, errors=errors, given=answer, status=422)
    saved, screen = save_and_next(settings.engine, who.person_id, item, answer, now=settings.clock())
    if is_fragment(request) or saved.feedback is not None:
        return _show(request, screen, saved=saved)
    return RedirectResponse("/rate", 303)


@router.post("/rate/{item}/pattern")
def answer_pattern(request: Request, who: Rater, item: str, pattern: Text = "", note: Text = "") -> Response:
    """Question 1 is answered before the description shows (an empty answer takes it back)."""
    settings = settings_of(request)
    draft = Answer(pattern or None, None, note)
    save_draft(settings.engine, who.person_id, item, draft, now=settings.clock())
    return _screen(request, who) if is_fragment(request) else RedirectResponse("/rate", 303)


@router.post("/rate/{item}/draft")
def draft(
    request: Request,
    who: Rater,
    item: str,
    pattern: Text = "",
    plausible: Text = "",
    note: Text = "",
) -> Response:
    """Keep the unfinished form and prolong the lease."""
    settings = settings_of(request)
    answer = Answer(pattern or None, plausible or None, note)
    save_draft(settings.engine, who.person_id, item, answer, now=settings.clock())
    return Response(status_code=204)


@router.get("/about")
def about(request: Request) -> Response:
    """What is kept about a rater."""
    return page(request, "about.html", me=visitor_of(request))
