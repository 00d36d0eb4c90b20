"""The JSON API, described by OpenAPI at /api/openapi.json.

Reading needs scope `read`, a describe job `describe`, ratings `export`; a signed-in lead (or, without accounts,
whoever is on this machine) needs no token.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Engine
from starlette.responses import Response

from agent.errors import UnknownRun
from agent.runs.database import reading
from agent.runs.relation_scores import RelationReading, relation_readings
from agent.runs.state import counts
from agent.runs.stored import stored_lines
from agent.runs.tables import list_runs, show_run
from eval.errors import BadStudy
from eval.rating.exchange.export import FORMATS, export
from eval.rating.progress import progress
from eval.rating.studies import list_studies
from eval.web.api.json_forms import AsciiJson, head_json, line_json, model_json
from eval.web.browser.browse_data import find_model, model_grid, models, relation_values
from eval.web.browser.head_data import head_detail
from eval.web.browser.search import Where, search
from eval.web.identity import need_scope, settings_of
from eval.web.jobs import Job, Jobs

Id = Annotated[int, Path(ge=0, le=2**31 - 1)]
Slug = Annotated[str, Path(min_length=1, max_length=200)]
OptionalId = Annotated[int | None, Query(ge=0, le=2**31 - 1)]


class Problem(BaseModel):
    """One line: what went wrong."""

    error: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem} for code in (400, 401, 403, 404, 409, 422, 429, 503)
}
router = APIRouter(prefix="/api/v1", responses=_PROBLEMS, default_response_class=AsciiJson)
_read, _describe, _export = (Depends(need_scope(s)) for s in ("read", "describe", "export"))


@router.get(
    "/models",
    dependencies=[_read],
    tags=["heads"],
    summary="All models with their newest run",
    response_description="a list of models: slug, name, sizes, newest run and its counts",
)
def api_models(request: Request) -> Response:
    """All models, each with its newest run and its counts."""
    return AsciiJson([model_json(line) for line in models(settings_of(request).engine)])


@router.get(
    "/models/{slug}/heads",
    dependencies=[_read],
    tags=["heads"],
    summary="Every head of a model",
    response_description="model, run, and a line a head",
)
def api_heads(request: Request, slug: Slug, run: OptionalId = None) -> Response:
    """Every head of a model in one run (the newest by default), with status, operation and test."""
    data = model_grid(settings_of(request).engine, slug, run)
    heads = [line_json(line) for line in data.heads]
    return AsciiJson({"model": data.model.name, "run": data.run.run_id, "heads": heads})


@router.get(
    "/models/{slug}/heads/{layer}/{head}",
    dependencies=[_read],
    tags=["heads"],
    summary="One head with all its evidence",
    response_description="what the head page shows; relations carry source and k",
)
def api_head(request: Request, slug: Slug, layer: Id, head: Id, run: OptionalId = None) -> Response:
    """One head: mappings, description, test, relation scores, similar heads, provenance."""
    return AsciiJson(head_json(head_detail(settings_of(request).engine, slug, layer, head, run)))


@router.get(
    "/models/{slug}/relation-scores",
    dependencies=[_read],
    tags=["heads"],
    summary="Scores of one relation on every head",
    response_description="source and k of the scores, and layer, head, score",
)
def api_relation_scores(
    request: Request,
    slug: Slug,
    relation: Annotated[str, Query(min_length=1, max_length=100)],
    suppression: bool = False,
) -> Response:
    """The relation score of every head, or the suppression score, with the source and k it was made with."""
    engine = settings_of(request).engine
    with reading(engine) as session:
        model_id = find_model(session, slug.replace("\x00", "")).id
    how = _reading(engine, model_id, relation)
    found = relation_values(engine, model_id, relation, suppression=suppression)
    scores = [{"layer": layer, "head": head, "score": v} for (layer, head), v in sorted(found.items())]
    return AsciiJson({"relation": relation, "suppression": suppression, **asdict(how), "scores": scores})


def _reading(engine: Engine, model_id: int, relation: str) -> RelationReading:
    """How the relation was scored. Raises UnknownRun, which names the relations that were."""
    stored = relation_readings(engine, model_id)
    if relation not in stored:
        raise UnknownRun(
            "no scores of this relation are stored for this model",
            got=relation,
            expected=f"one of {', '.join(stored)}" if stored else None,
            next_step=None if stored else "Store some: `map-relations --save FILE`, `headscribe runs add-scores FILE`.",
        )
    return stored[relation]


@router.get(
    "/models/{slug}/search",
    dependencies=[_read],
    tags=["heads"],
    summary="Heads by token, description or operation",
    response_description="how many were found, and the first of them with the reason",
)
def api_search(
    request: Request,
    slug: Slug,
    q: Annotated[str, Query(min_length=1, max_length=300)],
    where: Where = "all",
    limit: Annotated[int, Query(ge=1, le=500)] = 60,
) -> Response:
    """Heads by token, description or operation."""
    hits, total = search(settings_of(request).engine, slug, q, where=where, limit=limit)
    return AsciiJson({"total": total, "heads": [line_json(h.line) | {"why": list(h.why)} for h in hits]})


@router.get(
    "/runs",
    dependencies=[_read],
    tags=["runs"],
    summary="All runs, newest first",
    response_description="runs with state and counts",
)
def api_runs(request: Request) -> Response:
    """All runs, newest first."""
    return AsciiJson([asdict(run) for run in list_runs(settings_of(request).engine)])


@router.get(
    "/runs/{run_id}",
    dependencies=[_read],
    tags=["runs"],
    summary="One run",
    response_description="counts, state and settings",
)
def api_run(request: Request, run_id: Id) -> Response:
    """One run with its counts and identity."""
    return AsciiJson(asdict(show_run(settings_of(request).engine, run_id)))


@router.get(
    "/runs/{run_id}/descriptions",
    dependencies=[_read],
    tags=["runs"],
    summary="Descriptions of a run, a page at a time",
    response_description="how many there are, and this page of them",
)
def api_descriptions(
    request: Request,
    run_id: Id,
    offset: Annotated[int, Query(ge=0, le=10**6)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """Descriptions of a run in order of layer and head, a page at a time."""
    engine = settings_of(request).engine
    lines = stored_lines(engine, run_id, offset=offset, limit=limit)
    return AsciiJson({"total": counts(engine, run_id).done, "descriptions": [one.to_json() for one in lines]})


class DescribeRequest(BaseModel):
    """The head to describe."""

    model: str = Field(min_length=1, max_length=200, description="address part of the model, as in /models")
    layer: int = Field(ge=0, le=100_000)
    head: int = Field(ge=0, le=100_000)


@router.post(
    "/describe",
    dependencies=[_describe],
    status_code=202,
    tags=["jobs"],
    summary="Queue a head to be described",
    response_description="the job: poll /api/v1/jobs/ID",
)
def api_describe(request: Request, wanted: DescribeRequest) -> Response:
    """Queue a head to be described; poll the job for its progress."""
    queue = jobs_of(request)
    with reading(settings_of(request).engine) as session:
        model = find_model(session, wanted.model.replace("\x00", ""))
        if wanted.layer >= model.n_layers or wanted.head >= model.n_heads:
            raise UnknownRun(
                "no such head",
                got=f"layer {wanted.layer}, head {wanted.head}",
                expected=f"layer below {model.n_layers}, head below {model.n_heads}",
            )
        name, slug = model.name, model.slug
    return AsciiJson(job_json(queue.submit(name, slug, wanted.layer, wanted.head)), status_code=202)


def jobs_of(request: Request) -> Jobs:
    """The job queue. Raises BadStudy when this app has no describer."""
    found: Jobs | None = request.app.state.jobs
    if found is None:
        raise BadStudy("this app was started without a describer", next_step="Describe heads on the command line.")
    return found


def job_json(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return asdict(job)


@router.get(
    "/jobs/{job_id}",
    dependencies=[_describe],
    tags=["jobs"],
    summary="State of a describe job",
    response_description="the job, with its result once done",
)
def api_job(request: Request, job_id: Annotated[str, Path(max_length=40)]) -> Response:
    """State and, once done, the result."""
    return AsciiJson(job_json(jobs_of(request).get(job_id)))


@router.get(
    "/studies",
    dependencies=[_export],
    tags=["ratings"],
    summary="Rating studies with their progress",
    response_description="a list of studies",
)
def api_studies(request: Request) -> Response:
    """Rating studies with their progress."""
    engine = settings_of(request).engine
    found = []
    for study in list_studies(engine):
        p = progress(engine, study.id)
        found.append({"id": study.id, "name": study.name, "state": study.state, "slots": p.slots, "done": p.done})
    return AsciiJson(found)


@router.get(
    "/studies/{study_id}/ratings",
    dependencies=[_export],
    tags=["ratings"],
    summary="Ratings of a study as a file",
    response_description="CSV, JSONL or Label Studio JSON",
)
def api_ratings(
    request: Request,
    study_id: Id,
    fmt: Annotated[str, Query(alias="format", pattern=f"^({'|'.join(FORMATS)})$")] = "jsonl",
) -> Response:
    """The ratings of a study as CSV, JSONL or Label Studio JSON."""
    media = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}.get(fmt, "application/json")
    text = export(settings_of(request).engine, study_id, fmt)
    return Response(text.encode("utf-8", "replace"), media_type=media)
