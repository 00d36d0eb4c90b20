"""The page that documents the JSON API, made from its own OpenAPI description, and ways to it that people try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from eval.web.pages import page

router = APIRouter(include_in_schema=False)
_PLACES = {"/api": "/api/docs", "/docs": "/api/docs", "/redoc": "/api/docs", "/openapi.json": "/api/openapi.json"}


@dataclass(frozen=True)
class Operation:
    """One line of the page."""

    method: str
    path: str
    summary: str
    description: str
    gives: str
    query: tuple[str, ...]  # `name` where it is needed, else `[name]`


@router.get("/api/docs")
def api_docs(request: Request) -> Response:
    """All operations by group."""
    groups: dict[str, list[Operation]] = {}
    for tag, one in _operations(request.app.openapi()):
        groups.setdefault(tag, []).append(one)
    return page(request, "api.html", groups=groups, base=str(request.base_url).rstrip("/"))


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    for path, methods in schema["paths"].items():
        for method, found in methods.items():
            asked = [one for one in found.get("parameters", ()) if one["in"] == "query"]
            query = tuple(one["name"] if one["required"] else f"[{one['name']}]" for one in asked)
            done = next(code for code in found["responses"] if code.startswith("2"))
            gives = found["responses"][done]["description"]
            text = (found["summary"], found["description"], gives, query)
            yield found["tags"][0], Operation(method.upper(), path, *text)


@router.get("/api")
@router.get("/docs")
@router.get("/redoc")
@router.get("/openapi.json")
def where_it_is(request: Request) -> Response:
    """Where other servers have these."""
    return RedirectResponse(_PLACES[request.url.path], 307)
