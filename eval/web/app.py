"""The FastAPI app: routes, guards, errors as one line, static files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.errors import UnknownRun
from eval.errors import ContentChanged, NotAllowed, NotFound
from eval.web import lead, rate
from eval.web.api import page as api_page
from eval.web.api import routes as api
from eval.web.api.json_forms import AsciiJson
from eval.web.browser import browse
from eval.web.identity import visitor_of
from eval.web.jobs import Jobs, keep_in_records
from eval.web.pages import page
from eval.web.security import Guard, RateLimit
from eval.web.settings import WebSettings
from maps_engine.errors import Failure, HeadscribeError

_log = logging.getLogger(__name__)
_TITLES = {401: "Please sign in", 403: "Not for you", 404: "Not found", 429: "Too many requests"}


def create_app(settings: WebSettings) -> FastAPI:
    """The app for one database."""
    app = FastAPI(
        title="headscribe",
        version="1",
        description="Attention heads, what they do, and what people think of it.",
        docs_url=None,  # the stock pages load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.settings = settings
    app.state.jobs = _jobs(settings)
    app.state.link_limit = RateLimit(10, 60.0)  # failed tries to open a link, per address
    app.state.api_limit = RateLimit(600, 60.0)
    shared: list[str | tuple[str, str]] = [("agent.output", "static")]  # the style sheet, which reports have too
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static", packages=shared), name="static")
    app.include_router(api.router)
    app.include_router(api_page.router)
    app.include_router(browse.router)
    app.include_router(rate.router)
    app.include_router(lead.router)
    app.add_api_route("/healthz", _healthy, include_in_schema=False)
    app.include_router(browse.models_router)  # last: its first part is any model
    app.add_middleware(LastNet, state=app.state)
    app.add_middleware(Guard, hosts=settings.hosts)
    _add_error_pages(app)
    return app


def _jobs(settings: WebSettings) -> Jobs | None:
    return Jobs(settings.describe, keep_in_records(settings.engine)) if settings.describe else None


def _healthy() -> dict[str, str]:
    return {"status": "ok"}


class LastNet:
    """ASGI middleware inside the guard: limits the API's rate, and turns a crash into a page with all headers."""

    def __init__(self, app: ASGIApp, *, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        refusal = _too_many(request, self.state.api_limit)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if started:
                raise
            response = await run_in_threadpool(_on_crash, request, error)
            await response(scope, receive, send)


def _too_many(request: Request, limit: RateLimit) -> Response | None:
    if not request.url.path.startswith("/api/"):
        return None
    key = request.headers.get("authorization") or (request.client.host if request.client else "?")
    seconds = limit.wait(key)
    if not seconds:
        return None
    text = f"too many requests; wait {seconds:.0f} s"
    return AsciiJson({"error": text}, status_code=429, headers={"Retry-After": f"{seconds:.0f}"})


def _add_error_pages(app: FastAPI) -> None:
    app.add_exception_handler(HeadscribeError, _on_headscribe_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)


def _answer(request: Request, status: int, text: str) -> Response:
    if request.url.path.startswith("/api/") or request.url.path.endswith(".json"):
        return AsciiJson({"error": text}, status_code=status)
    title = _TITLES.get(status, "That did not work")
    try:
        return page(request, "message.html", status=status, title=title, text=text)
    except HeadscribeError:  # the database is gone: even the visitor cannot be looked up
        return Response(f"{title}: {text}\n", status, media_type="text/plain; charset=utf-8")


def _on_headscribe_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadscribeError)
    return _answer(request, _status_of(request, error), error.one_line())


def _status_of(request: Request, error: HeadscribeError) -> int:
    if isinstance(error, NotAllowed):
        signed_in = bool(request.headers.get("authorization")) or _is_known(request)
        return 403 if signed_in else 401
    if isinstance(error, UnknownRun | NotFound):
        return 404
    if isinstance(error, ContentChanged):
        return 409
    if isinstance(error, Failure):
        return 503
    return 409 if request.method == "POST" else 400


def _is_known(request: Request) -> bool:
    try:
        return visitor_of(request).who is not None
    except HeadscribeError:
        return False


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(str(p) for p in e['loc'][1:])}: {e['msg']}" for e in error.errors()[:5]]
    return _answer(request, 422, "; ".join(parts) or "invalid request")


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail: Any = error.detail
    response = _answer(request, error.status_code, f"{detail}".rstrip(".") + ".")
    response.headers.update(error.headers or {})
    return response


def _on_crash(request: Request, error: Exception) -> Response:
    _log.error("a page failed: %s %s", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, "Something went wrong on the server. Nothing that was confirmed is lost.")
