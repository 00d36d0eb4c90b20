"""What went wrong with a request, told apart by what helps: wait and try again, give the question up, stop the run.

Read from attributes that the clients of all providers share (a status, a response with headers, the names of their
exception classes), so that no client is imported here. LangChain's own classes of errors (`ModelError`) count where a
provider's error has no status, and for questions that are too long. They do not suffice alone: they hold no
Retry-After; `is_retryable` calls a quota that is used up worth another try, like every 429; a refused parameter and a
refused form of request are of one class with every bad request; a body that is no completion has no class.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "credit balance is too low")
TOO_LONG = ("context_length_exceeded", "exceed_context_size", "context length", "context size", "prompt is too long")
PASSING_STATUS = (408, 409, 425)
STATUS_OF_CLASS: Final = {  # as `langchain_core.exceptions` documents them
    "ContextOverflowError": 413,
    "ModelAuthenticationError": 401,
    "ModelPermissionDeniedError": 403,
    "ModelNotFoundError": 404,
    "ModelRateLimitError": 429,
    "ModelAPIError": 500,
    "ModelInvalidRequestError": 400,
}
UNREACHED: Final = {"ConnectError", "ConnectionRefusedError", "gaierror"}
CUT: Final = {"APIConnectionError", "ModelConnectionError", "ConnectionError", "TransportError", "IncompleteRead"}
SHORT = 300  # characters of an error's text


@dataclass(frozen=True)
class Fault:
    """One failed request: `kind` as in ModelFault, and what it means."""

    kind: str
    reason: str
    passes: bool = False  # worth another try
    ends_run: bool = False  # no other question would fare better
    refuses_form: bool = False  # the endpoint may take another form of request
    wait: float | None = None  # seconds that the endpoint asks for
    may_have_cost: bool = False  # the endpoint may have worked on it before it went wrong
    parameter: str = ""  # the one that the endpoint does not take


def fault_of(error: Exception, *, timeout: float) -> Fault | None:
    """What `error`, raised by a provider's client, means; None for an error of our own. `timeout` is in seconds."""
    status = _status(error)
    if status is not None:
        return _by_status(status, error)
    names = _names(error)
    if any("Timeout" in name for name in names):
        return Fault("timeout", f"no answer within {timeout:g} s", passes=True, may_have_cost=True)
    if names & UNREACHED:
        return Fault("connection", f"the endpoint cannot be reached: {_short(_root(error))}", passes=True)
    if names & CUT:
        return Fault("connection", f"the connection was cut: {_short(_root(error))}", passes=True, may_have_cost=True)
    if "LengthFinishReasonError" in names:
        return Fault("cut off", "the reply was cut off", may_have_cost=True)
    if "ContentFilterFinishReasonError" in names:
        return Fault("content filter", "the endpoint's content filter stopped the reply", may_have_cost=True)
    # clients meet a body of another shape with whichever of these comes first
    if isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):
        reason = f"the endpoint's answer is no chat completion: {_short(error)}"
        return Fault("bad body", reason, passes=True, may_have_cost=True)
    return None if type(error).__module__ == "builtins" else Fault("unknown", _short(error), may_have_cost=True)


def _by_status(status: int, error: Exception) -> Fault:
    said = f"the endpoint answered {status}: {_short(error)}"
    text = f"{getattr(error, 'code', '')} {getattr(error, 'type', '')} {error}".lower()
    if status == 402 or any(word in text for word in NO_MONEY):
        return Fault("no quota", f"the provider's quota or balance is used up: {_short(error)}", ends_run=True)
    if status in (401, 403, 404):
        return Fault({401: "key", 403: "forbidden", 404: "not found"}[status], said, ends_run=True)
    if status == 429:
        return Fault("rate limit", said, passes=True, wait=_retry_after(error))
    if status in PASSING_STATUS or status >= 500:
        kind = "timeout" if status in (408, 504) else "server"
        return Fault(kind, said, passes=True, wait=_retry_after(error), may_have_cost=status in (408, 504))
    if status == 413 or "ContextOverflowError" in _names(error) or any(words in text for words in TOO_LONG):
        return Fault("too long", said)
    if "content_filter" in text or "content management policy" in text:
        return Fault("content filter", said)
    return Fault("bad request", said, refuses_form=status in (400, 415, 422, 501), parameter=_parameter(error, text))


def _status(error: Exception) -> int | None:
    for one in _chain(error):
        for place in (one, getattr(one, "response", None)):
            status = getattr(place, "status_code", None)
            if isinstance(status, int) and status >= 400:
                return status
    names = _names(error)
    return next((status for name, status in STATUS_OF_CLASS.items() if name in names), None)


def _parameter(error: Exception, text: str) -> str:
    """`temperature` or a name of the token limit, where the endpoint says that it does not take it."""
    named = str(getattr(error, "param", None) or "")
    known = ("temperature", "max_completion_tokens", "max_tokens")
    if named in known:
        return named
    refused = any(
        word in text for word in ("unsupported", "not supported", "unrecognized", "unknown", "extra_forbidden")
    )
    return next((name for name in known if refused and name in text), "")


def _retry_after(error: Exception) -> float | None:
    """Seconds that the endpoint asks to wait: a number, or a date (RFC 9110, 10.2.3); never negative."""
    headers = _headers(error)
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(milliseconds / 1000, 0.0)
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None:
        return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(str(given)).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def _headers(error: Exception) -> Mapping[str, Any]:
    for one in _chain(error):
        headers = getattr(getattr(one, "response", None), "headers", None)
        if headers is not None:
            return headers
    return {}


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if value == value and value != float("inf") else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(6):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _names(error: BaseException) -> set[str]:
    """Names of the classes of the error and of those that led to it."""
    return {cls.__name__ for one in _chain(error) for cls in type(one).__mro__}


def _root(error: BaseException) -> BaseException:
    return list(_chain(error))[-1]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:SHORT] or type(error).__name__
