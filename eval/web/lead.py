"""Pages of the lead: studies, new study, preview, launch, progress, agreement, disagreements, export."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from agent.runs.database import reading
from agent.runs.tables import list_runs
from eval.errors import BadStudy
from eval.rating.exchange.export import FORMATS, export
from eval.rating.heads.described import described_heads
from eval.rating.judges import make_judge, run_judge
from eval.rating.people import invite
from eval.rating.progress import progress
from eval.rating.report.report import disagreements, study_report
from eval.rating.report.text import as_html, as_markdown, figures
from eval.rating.studies import (
    INSTRUCTIONS,
    StudySettings,
    audit_trail,
    close_study,
    create_study,
    get_study,
    launch,
    list_studies,
)
from eval.rating.swapped_rows import SwappedRows
from eval.rating.tables import Study
from eval.rating.verdicts import VERDICTS, adjudicate
from eval.web.identity import Visitor, need_lead, settings_of
from eval.web.pages import page

router = APIRouter(prefix="/lead", include_in_schema=False)
Lead = Annotated[Visitor, Depends(need_lead)]
_MEDIA = {
    "csv": ("text/csv; charset=utf-8", "csv"),
    "jsonl": ("application/x-ndjson", "jsonl"),
    "label-studio": ("application/json", "json"),
    "report-md": ("text/markdown; charset=utf-8", "md"),
    "report-html": ("text/html; charset=utf-8", "html"),
}


@router.get("")
def studies_page(request: Request, lead: Lead) -> Response:
    """All studies with their progress."""
    engine = settings_of(request).engine
    found = [(study, progress(engine, study.id)) for study in list_studies(engine)]
    return page(request, "studies.html", studies=found)


@router.get("/new")
def new_page(request: Request, lead: Lead) -> Response:
    """The form of a new study."""
    return _new_form(request, {}, "")


def _new_form(request: Request, given: dict[str, object], error: str, status: int = 200) -> Response:
    runs = [run for run in list_runs(settings_of(request).engine) if run.counts.ok]
    values = {"runs": runs, "given": given, "error": error, "defaults": StudySettings()}
    return page(request, "new_study.html", status=status, instructions=INSTRUCTIONS, **values)


@router.post("/studies")
async def create(request: Request, lead: Lead) -> Response:
    """Make the draft, or show the form again with what is wrong."""
    form = {name: str(value) for name, value in (await request.form()).items()}
    try:
        study = await run_in_threadpool(_create, request, form, lead.name)
    except BadStudy as error:
        return await run_in_threadpool(_new_form, request, dict(form), error.one_line(), 422)
    return RedirectResponse(f"/lead/studies/{study}", 303)


def _create(request: Request, form: dict[str, str], by: str) -> int:
    engine = settings_of(request).engine
    run_id = _whole(form, "run") or 0
    share = _whole(form, "control_percent") or 0
    settings = StudySettings(
        n_heads=_whole(form, "n_heads"),
        first_layer=_whole(form, "first_layer"),
        last_layer=_whole(form, "last_layer"),
        stratify="stratify" in form,
        control_share=share / 100,
        practice=_whole(form, "practice") or 0,
        attention=_whole(form, "attention") or 0,
        pattern_first="pattern_first" in form,
        lease_minutes=float(_whole(form, "lease_minutes") or 30),
        items_per_rater=_whole(form, "items_per_rater"),
        each_operation="each_operation" in form,
        instructions=form.get("instructions", "")[:20_000].strip() or INSTRUCTIONS,
        source=f"run {run_id}",
    )
    heads = described_heads(engine, run_id)
    k, seed = _whole(form, "k") or 0, _whole(form, "seed") or 0
    name = form.get("name", "")
    reread = SwappedRows(engine, run_id) if "tested_rows" in form else None
    return create_study(engine, name=name, heads=heads, k=k, seed=seed, settings=settings, by=by, reread=reread)


def _whole(form: dict[str, str], name: str) -> int | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise BadStudy(f"{name.replace('_', ' ')} must be a whole number", got=text[:40])
    return int(text)


def _study(request: Request, study_id: int) -> Study:
    with reading(settings_of(request).engine) as session:
        study = get_study(session, study_id)
        _ = [item.kind for item in study.items]  # load before the session ends
        session.expunge_all()
        return study


@router.get("/studies/{study_id}")
def study_page(request: Request, lead: Lead, study_id: int) -> Response:
    """State, people, leases, audit trail."""
    return _study_page(request, study_id)


def _study_page(request: Request, study_id: int, link: str = "", name: str = "") -> Response:
    engine = settings_of(request).engine
    now = settings_of(request).clock()
    values: dict[str, Any] = {
        "study": _study(request, study_id),
        "p": progress(engine, study_id, now=now),
        "events": audit_trail(engine, study_id, limit=30),
        "link": link,
        "link_name": name,
        "now": now,
    }
    return page(request, "study.html", **values)


@router.post("/studies/{study_id}/launch")
def launch_it(request: Request, lead: Lead, study_id: int) -> Response:
    """Freeze and open the study."""
    launch(settings_of(request).engine, study_id, by=lead.name)
    return RedirectResponse(f"/lead/studies/{study_id}", 303)


@router.post("/studies/{study_id}/close")
def close_it(request: Request, lead: Lead, study_id: int) -> Response:
    """Take no more answers."""
    close_study(settings_of(request).engine, study_id, by=lead.name)
    return RedirectResponse(f"/lead/studies/{study_id}", 303)


@router.post("/studies/{study_id}/invite")
def invite_rater(
    request: Request, lead: Lead, study_id: int, name: Annotated[str, Form(max_length=100)] = ""
) -> Response:
    """A personal link, shown once on the page."""
    engine = settings_of(request).engine
    shown, token = invite(engine, study_id=study_id, name=name.strip() or None, by=lead.name)
    return _study_page(request, study_id, f"{request.base_url}join/{token}", shown)


@router.post("/studies/{study_id}/judge")
def judge(request: Request, lead: Lead, study_id: int) -> Response:
    """Let the lexical judge rate, marked as a program."""
    kind, lexical = make_judge("lexical")
    run_judge(settings_of(request).engine, study_id, lexical, kind=kind)
    return RedirectResponse(f"/lead/studies/{study_id}", 303)


@router.get("/studies/{study_id}/preview")
def preview(request: Request, lead: Lead, study_id: int, item: Annotated[int, Query(ge=0, le=10**6)] = 0) -> Response:
    """An item as raters will see it, with what they will not see beside it."""
    study = _study(request, study_id)
    chosen = study.items[min(item, len(study.items) - 1)]
    return page(request, "preview.html", study=study, item=chosen, count=len(study.items))


@router.get("/studies/{study_id}/agreement")
def agreement_page(request: Request, lead: Lead, study_id: int) -> Response:
    """All numbers."""
    report = study_report(settings_of(request).engine, study_id, draws=400)
    study = _study(request, study_id)
    return page(request, "agreement.html", study=study, r=report, figures=figures(report))


@router.get("/studies/{study_id}/disagreements")
def disagreements_page(request: Request, lead: Lead, study_id: int) -> Response:
    """Where raters differ, with a verdict form."""
    found = disagreements(settings_of(request).engine, study_id)
    study = _study(request, study_id)
    return page(request, "disagreements.html", study=study, found=found[:100], total=len(found), verdicts=VERDICTS)


@router.post("/studies/{study_id}/adjudicate/{public_id}")
def adjudicate_it(
    request: Request,
    lead: Lead,
    study_id: int,
    public_id: str,
    verdict: Annotated[str, Form(max_length=20)] = "",
    note: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """Keep the lead's verdict."""
    engine = settings_of(request).engine
    adjudicate(engine, study_id, public_id, verdict=verdict, note=note, by=lead.name)
    return RedirectResponse(f"/lead/studies/{study_id}/disagreements", 303)


@router.get("/studies/{study_id}/export/{fmt}")
def download(request: Request, lead: Lead, study_id: int, fmt: str) -> Response:
    """The study as a file."""
    if fmt not in _MEDIA:
        raise BadStudy("unknown format", got=fmt[:40], expected=", ".join(_MEDIA))
    engine = settings_of(request).engine
    if fmt in FORMATS:
        text = export(engine, study_id, fmt)
    else:
        report = study_report(engine, study_id)
        text = as_html(report) if fmt == "report-html" else as_markdown(report, linked=False)
    media, ending = _MEDIA[fmt]
    disposition = f'attachment; filename="study-{study_id}-{fmt}.{ending}"'
    return Response(text.encode("utf-8", "replace"), media_type=media, headers={"Content-Disposition": disposition})
