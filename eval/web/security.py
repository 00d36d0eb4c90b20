"""Headers, host check, cross-site check and rate limits, before any route runs.

Pages are server-made and load nothing from elsewhere, so the policy forbids everything else: no inline script or
style, no frame, no outside address. A request that changes something must come from our own pages: Sec-Fetch-Site
says so in every current browser, else Origin must name our host. A bearer token proves intent by itself.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_BODY = 2_000_000


class Guard:
    """ASGI middleware: refuses foreign hosts, cross-site changes and large bodies; adds the headers."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, _with_headers(scope, send))
            return
        await self.app(scope, receive, _with_headers(scope, send))

    def refusal(self, method: str, headers: Headers) -> Response | None:
        """Why this request is not let in, or None."""
        host = headers.get("host", "")
        if host_name(host) not in self.hosts:
            return PlainTextResponse("Unknown host name. Start the app with --allow-host NAME.\n", 400)
        if not _is_length(headers.get("content-length", "0"), MAX_BODY):
            return PlainTextResponse("Too large.\n", 413)
        if method not in SAFE_METHODS and not same_site(headers, host):
            return PlainTextResponse(
                "Refused: this request does not come from a page of this site. "
                "Programs send a token (Authorization: Bearer …).\n",
                403,
            )
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without port, lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_length(text: str, most: int) -> bool:
    return text.isdigit() and int(text) <= most


def same_site(headers: Headers, host: str) -> bool:
    """Whether an unsafe request may be taken as made by our own pages."""
    if headers.get("authorization", "").startswith("Bearer ") and "cookie" not in headers:
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == host.lower()


def _with_headers(scope: Scope, send: Send) -> Send:
    is_static = scope["path"].startswith("/static/")

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "public, max-age=3600" if is_static else "no-store")
        await send(message)

    return wrapped


class RateLimit:
    """At most `limit` events per `seconds` and key; remembers at most 10,000 keys."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit, self.seconds, self.clock = limit, seconds, clock
        self._events: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str, *, count: bool = True) -> float:
        """0 when allowed (and counted); else how many seconds to wait."""
        now = self.clock()
        with self._lock:
            recent = [t for t in self._events.pop(key, []) if t > now - self.seconds]
            full = len(recent) >= self.limit
            if count and not full:
                recent.append(now)
            self._events[key] = recent
            while len(self._events) > 10_000:
                self._events.popitem(last=False)
            return recent[0] + self.seconds - now if full else 0.0
