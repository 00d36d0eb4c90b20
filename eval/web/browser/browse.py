"""Pages of the head browser: models, one model's grid, one head, two heads, search."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from agent.errors import UnknownRun
from agent.runs.head_rows import folded_name
from eval.errors import BadStudy
from eval.web.api.json_forms import AsciiJson, head_json
from eval.web.browser.browse_data import ModelGrid, model_grid, models, relation_values
from eval.web.browser.grid import make_grid, metrics
from eval.web.browser.head_data import HeadDetail, head_detail
from eval.web.browser.search import WHERES, Where, search
from eval.web.identity import need_browse, need_lead, settings_of, visitor_of
from eval.web.pages import is_fragment, page

router = APIRouter(include_in_schema=False)
models_router = APIRouter(include_in_schema=False, dependencies=[Depends(need_browse)])
Place = Annotated[int, Path(ge=0, le=2**31 - 1)]
Number = Annotated[int, Query(ge=0, le=2**31 - 1)]
_HEAD_NAME = re.compile(r"^\s*(?:L?(\d{1,5})\s*[.:/,\s]\s*H?(\d{1,5}))\s*$", re.IGNORECASE)


@router.get("/")
def home(request: Request) -> Response:
    """The models for who may see them; raters go on rating."""
    visitor = visitor_of(request)
    if visitor.may_browse:
        return page(request, "models.html", models=models(settings_of(request).engine))
    if visitor.is_rater:
        return RedirectResponse("/rate", 303)
    return page(request, "welcome.html")


@models_router.get("/search")
def search_page(
    request: Request,
    q: Annotated[str, Query(max_length=300)] = "",
    where: Where = "all",
    model: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Search one model's newest run (the first model when none is named)."""
    engine = settings_of(request).engine
    known = [m for m in models(engine) if m.run_id is not None]
    if not known:
        raise UnknownRun("there is nothing to search yet", next_step="Label the heads of a model first.")
    chosen = model or known[0].slug
    hits, total = search(engine, chosen, q, where=where)
    return page(
        request,
        "search.html",
        q=q,
        where=where,
        wheres=WHERES,
        models=known,
        chosen=chosen,
        hits=hits,
        total=total,
        shown=len(hits),
    )


@models_router.get("/compare")
def compare_page(
    request: Request,
    a: Annotated[str, Query(max_length=220)] = "",
    b: Annotated[str, Query(max_length=220)] = "",
) -> Response:
    """Two heads side by side; each is `model:layer.head`."""
    engine = settings_of(request).engine
    sides = [_named_head(engine, text) if text.strip() else None for text in (a, b)]
    shared = _shared(sides[0], sides[1]) if sides[0] and sides[1] else frozenset()
    return page(request, "compare.html", a=a, b=b, sides=[s for s in sides if s], shared=shared, models=models(engine))


def _named_head(engine: Any, text: str) -> HeadDetail:
    slug, _, name = text.strip().rpartition(":")
    found = _HEAD_NAME.match(name)
    if not slug or found is None:
        raise BadStudy("a head to compare is written MODEL:LAYER.HEAD", got=text, expected="for example m:3.5")
    return head_detail(engine, slug, int(found[1]), int(found[2]))


def _shared(a: HeadDetail, b: HeadDetail) -> frozenset[str]:
    return frozenset({row.token for row in a.rows} & {row.token for row in b.rows})


@models_router.get("/{slug}")
def model_page(
    request: Request,
    slug: str,
    metric: Annotated[str, Query(max_length=200)] = "category",
    run: Number | None = None,
    view: Annotated[str, Query(pattern="^(grid|table)$")] = "grid",
) -> Response:
    """The grid of a model, or its table twin."""
    engine = settings_of(request).engine
    data = model_grid(engine, slug, run)
    names = metrics(data)
    if metric not in names:
        raise BadStudy("unknown metric", got=metric[:80], expected=", ".join(list(names)[:6]) + " …")
    grid = make_grid(data, metric, _values(request, data, metric))
    template = "_grid.html" if is_fragment(request) else "model.html"
    return page(request, template, data=data, grid=grid, metrics=names, view=view, run_asked=run, common=_common(data))


def _values(request: Request, data: ModelGrid, metric: str) -> dict[tuple[int, int], float] | None:
    kind, _, relation = metric.partition(":")
    if kind not in ("relation", "suppression"):
        return None
    engine = settings_of(request).engine
    return relation_values(engine, data.model.model_id, relation, suppression=kind == "suppression")


def _common(data: ModelGrid) -> list[tuple[str, int]]:
    """The most frequent of all that heads do, with how many do it; spelled as a description has it where one does."""
    described = [line for line in data.heads if line.status == "ok" and line.operation]
    spelled = {folded_name(line.operation): line.operation for line in described}
    found = Counter(folded_name(name) for line in described for name in (line.operation, *line.others))
    return [(spelled.get(name, name), n) for name, n in found.most_common(8)]


@models_router.get("/{slug}/head/{layer}/{head}.json")
def head_twin(request: Request, slug: str, layer: Place, head: Place, run: Number | None = None) -> Response:
    """The head page's data."""
    return AsciiJson(head_json(head_detail(settings_of(request).engine, slug, layer, head, run)))


@models_router.get("/{slug}/head/{layer}/{head}")
def head_page(request: Request, slug: str, layer: Place, head: Place, run: Number | None = None) -> Response:
    """One head."""
    settings = settings_of(request)
    detail = head_detail(settings.engine, slug, layer, head, run)
    jobs = request.app.state.jobs
    return page(
        request,
        "head.html",
        d=detail,
        run_asked=run,
        can_describe=settings.describe is not None and visitor_of(request).is_lead,
        job=jobs.latest(slug, layer, head) if jobs else None,
    )


@models_router.post("/{slug}/head/{layer}/{head}/describe")
def describe_again(request: Request, slug: str, layer: Place, head: Place) -> Response:
    """Queue the head; the page then shows the job's progress."""
    need_lead(request)
    jobs = request.app.state.jobs
    if jobs is None:
        raise BadStudy("this app was started without a describer")
    detail = head_detail(settings_of(request).engine, slug, layer, head)
    jobs.submit(detail.model.name, slug, layer, head)
    return RedirectResponse(f"/{slug}/head/{layer}/{head}", 303)


@models_router.get("/{slug}/head/{layer}/{head}/job")
def job_state(request: Request, slug: str, layer: Place, head: Place) -> Response:
    """The newest job of a head, as a part of its page."""
    jobs = request.app.state.jobs
    job = jobs.latest(slug, layer, head) if jobs else None
    return page(request, "_job.html", job=job, base=f"/{slug}/head/{layer}/{head}")
