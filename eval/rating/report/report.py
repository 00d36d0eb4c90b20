"""The numbers of a study and the report around them, in the form of the paper's human study:
how many sets of rows show a pattern, and how many descriptions people judge correct, by layer.

What is rated is an item: a description of a head with its rows. A study may ask about several descriptions of a head.

Practice and attention items never enter a rate; control items have a rate of their own. Judges (programs) are
listed beside people and never mixed with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from agent.errors import UnknownRun
from agent.runs.database import reading
from agent.runs.state import counts
from eval.rating.answers import FinalRating, adjudications, answered, final_ratings
from eval.rating.studies import get_study
from eval.rating.tables import Adjudication
from eval.statistics.agreement import Agreement, Answered, Rates, agreement, rates
from eval.statistics.intervals import Estimate, gap, wilson

PLAUSIBLE = ("yes",)
PARTLY = ("yes", "partly")


@dataclass(frozen=True)
class Row:
    """Plausibility and patterns of one group of descriptions."""

    group: str
    plausible: Rates
    at_least_partly: Rates
    pattern: Rates


@dataclass(frozen=True)
class JudgeRow:
    """A program's rates beside people's, and how often both agree on a description."""

    judge: str
    plausible: Rates
    partly: Rates  # at least
    swapped: Rates  # plausible, of swapped descriptions
    same_as_people: Estimate


@dataclass(frozen=True)
class StudyReport:
    """Everything a lead can publish."""

    name: str
    state: str
    content_hash: str
    source: str
    n_heads: int
    n_descriptions: int  # of these heads, each an item
    n_controls: int
    k: int
    skipped: int
    late: int
    cannot: int
    overall: Row
    by_layer: tuple[Row, ...]
    by_category: tuple[Row, ...]
    by_describer: tuple[Row, ...]
    control: Row
    gap: Estimate
    agreement: dict[str, Agreement | None]
    judges: tuple[JudgeRow, ...]
    coverage: Estimate | None  # described heads of the run: named / all with a result
    adjudicated: dict[str, int]


def study_report(engine: Engine, study_id: int, *, draws: int = 1000, seed: int = 0) -> StudyReport:
    """All numbers of a study, from its final answers. Raises BadStudy, ContentChanged."""
    ratings = final_ratings(engine, study_id)
    with reading(engine) as session:
        study = get_study(session, study_id)
        kinds = [item.kind for item in study.items]
        facts = (study.name, study.state, study.content_hash or "", str(study.settings["source"]))
        origins = [item.origin for item in study.items if item.kind == "real"]
        k = study.k
    people = [r for r in ratings if r.judge is None and r.kind in ("real", "control")]
    real = [r for r in people if r.kind == "real"]

    def grouped(name: str) -> tuple[Row, ...]:
        return _groups(real, lambda r: r.origin.get(name), draws, seed)

    verdicts = adjudications(engine, study_id)
    return StudyReport(
        *facts,
        n_heads=len({(one.get("fingerprint"), one.get("layer"), one.get("head")) for one in origins}),
        n_descriptions=len(origins),
        n_controls=kinds.count("control"),
        k=k,
        skipped=sum(r.skip_reason is not None for r in people),
        late=sum(not r.counted for r in people),
        cannot=sum(r.usable and r.plausible == "cannot" for r in people),
        overall=_row("all descriptions", real, "real", draws, seed),
        by_layer=grouped("layer"),
        by_category=grouped("category"),
        by_describer=grouped("describer"),
        control=_row("swapped descriptions", people, "control", draws, seed),
        gap=_gap(people, draws, seed) if "control" in kinds else Estimate(None, why="no control items"),
        agreement={q: _agreement(real, q, draws, seed) for q in ("plausible", "pattern")},
        judges=_judges(ratings, real, draws, seed),
        coverage=_coverage(engine, {one.get("run") for one in origins}),
        adjudicated={v: sum(a.verdict == v for a in verdicts.values()) for v in ("yes", "partly", "no")},
    )


def _row(group: str, ratings: list[FinalRating], kind: str, draws: int, seed: int) -> Row:
    plausible = answered(ratings, "plausible", kind=kind)
    pattern = answered(ratings, "pattern", kind=kind)
    return Row(
        group,
        rates(plausible, wanted=PLAUSIBLE, draws=draws, seed=seed),
        rates(plausible, wanted=PARTLY, draws=draws, seed=seed),
        rates(pattern, wanted=("yes",), draws=draws, seed=seed),
    )


def _groups(ratings: list[FinalRating], key: Callable[[FinalRating], object], draws: int, seed: int) -> tuple[Row, ...]:
    parts: dict[object, list[FinalRating]] = defaultdict(list)
    for rating in ratings:
        value = key(rating)
        parts["not given" if value is None else value].append(rating)
    order = sorted(parts, key=lambda v: (not isinstance(v, int), v if isinstance(v, int) else 0, str(v)))
    return tuple(_row(str(value), parts[value], "real", draws, seed) for value in order)


def _clusters(ratings: Sequence[FinalRating], kind: str) -> list[list[bool]]:
    items: dict[str, list[bool]] = defaultdict(list)
    for a in answered(list(ratings), "plausible", kind=kind):
        items[a.item].append(a.value in PLAUSIBLE)
    return list(items.values())


def _gap(people: list[FinalRating], draws: int, seed: int) -> Estimate:
    return gap(_clusters(people, "real"), _clusters(people, "control"), draws=draws, seed=seed)


def _agreement(real: list[FinalRating], question: str, draws: int, seed: int) -> Agreement | None:
    answers = answered(real, question)
    return agreement(answers, draws=draws, seed=seed) if answers else None


def _judges(ratings: list[FinalRating], people: list[FinalRating], draws: int, seed: int) -> tuple[JudgeRow, ...]:
    crowd = _majorities(answered(people, "plausible"))
    found = []
    for judge in sorted({r.judge for r in ratings if r.judge is not None}):
        answers = answered(ratings, "plausible", judge=judge)
        own = _majorities(answers)
        both = [item for item in own if item in crowd]
        same = wilson(sum(own[i] == crowd[i] for i in both), len(both))
        swapped = answered(ratings, "plausible", kind="control", judge=judge)
        found.append(
            JudgeRow(
                judge,
                plausible=rates(answers, wanted=PLAUSIBLE, draws=draws, seed=seed),
                partly=rates(answers, wanted=PARTLY, draws=draws, seed=seed),
                swapped=rates(swapped, wanted=PLAUSIBLE, draws=draws, seed=seed),
                same_as_people=same,
            )
        )
    return tuple(found)


def _majorities(answers: Sequence[Answered]) -> dict[str, bool]:
    items: dict[str, list[bool]] = defaultdict(list)
    for a in answers:
        items[a.item].append(a.value in PLAUSIBLE)
    return {item: sum(v) * 2 > len(v) for item, v in items.items() if sum(v) * 2 != len(v)}


def _coverage(engine: Engine, runs: set[object]) -> Estimate | None:
    """Share of heads with a name, among those with a result, in the run the study was made from."""
    if len(runs) != 1:
        return None
    try:
        n = counts(engine, int(str(next(iter(runs)))))
    except (UnknownRun, ValueError):
        return None  # imported from elsewhere, or the run was deleted since
    return wilson(n.ok, n.done)


@dataclass(frozen=True)
class Disagreement:
    """A real item whose raters do not all say the same, for the lead to look at."""

    public_id: str
    position: int
    layer: int
    head: int
    model: str
    content: dict[str, object]
    answers: tuple[FinalRating, ...]
    verdict: str | None
    note: str


def disagreements(engine: Engine, study_id: int) -> list[Disagreement]:
    """Items with different answers on plausibility, the most split first."""
    by_item: dict[str, list[FinalRating]] = defaultdict(list)
    for rating in final_ratings(engine, study_id):
        if rating.kind == "real" and rating.usable and rating.judge is None:
            by_item[rating.item].append(rating)
    verdicts = adjudications(engine, study_id)
    split = [answers for answers in by_item.values() if len({a.plausible for a in answers}) > 1]
    split.sort(key=lambda answers: (-_spread(answers), answers[0].position))
    return [_disagreement(answers, verdicts) for answers in split]


def _spread(answers: list[FinalRating]) -> float:
    yes = sum(a.plausible == "yes" for a in answers) / len(answers)
    return min(yes, 1 - yes) + (0.1 if any(a.plausible == "no" for a in answers) else 0.0)


def _disagreement(answers: list[FinalRating], verdicts: dict[str, Adjudication]) -> Disagreement:
    first = answers[0]
    verdict = verdicts.get(first.item)
    origin = first.origin
    return Disagreement(
        first.item,
        first.position,
        int(origin["layer"]),
        int(origin["head"]),
        str(origin["model"]),
        first.content,
        tuple(answers),
        verdict.verdict if verdict else None,
        verdict.note if verdict else "",
    )
