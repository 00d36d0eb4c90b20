"""Pages of the web app: its own templates over the shared ones of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import Request
from starlette.responses import HTMLResponse

from agent.output.pages import environment
from eval.web.identity import visitor_of

TEMPLATES: Final = Path(__file__).parent / "templates"


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true" and "hx-history-restore-request" not in request.headers


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template; every page knows its visitor."""
    made = environment(TEMPLATES).get_template(template)
    text = made.render(request=request, visitor=visitor_of(request), path=request.url.path, **values)
    return HTMLResponse(text.encode("utf-8", "replace").decode("utf-8"), status_code=status)
