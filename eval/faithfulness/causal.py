"""The causal experiment over all operations that have a prompt; resumable, one file for each operation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.faithfulness.ablation import (
    MIN_ACCURACY,
    MODES,
    Removal,
    Task,
    ask,
    controls_of,
    heads_of,
    mean_states,
    measure,
    measure_controls,
    removal_limit,
    steps,
)
from eval.faithfulness.bench import Bench
from eval.faithfulness.correlation import PairLimits
from eval.faithfulness.paired_removal import OtherChoice, against_row, differences, other_choice
from eval.faithfulness.running.few_shot import FewShot, Question, questions
from eval.faithfulness.running.pair_choice import one_token_pairs
from eval.faithfulness.running.running_model import Ablation
from eval.faithfulness.static_scores import PAPER, StaticSetting, static_scores
from eval.statistics.intervals import Estimate, mean_rate, repeated_rate, wilson
from maps_engine.relations.format import Relation
from maps_engine.relations.thresholds import TAU

MIN_QUESTIONS = 10


@dataclass(frozen=True)
class CausalTable:
    """One row for each operation that was run, and why others were not.

    limit: the most heads that are removed from this model. rows and skipped are plain JSON values. against: the
    setting whose choice of heads is compared with, if any.
    """

    setting: str
    tau: float
    limit: int
    rows: tuple[dict[str, Any], ...]
    skipped: tuple[dict[str, Any], ...]
    against: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "setting": self.setting,
            "tau": self.tau,
            "most_heads": self.limit,
            "relations": list(self.rows),
            "skipped": list(self.skipped),
            **self._against(),
        }

    def _against(self) -> dict[str, Any]:
        if self.against is None:
            return {}
        return {"against": {"setting": self.against, "differences": differences(self.rows)}}


def causal(
    bench: Bench,
    relations: Sequence[Relation],
    shots: Sequence[FewShot],
    *,
    max_pairs: int | None = None,
    setting: StaticSetting = PAPER,
    against: StaticSetting | None = None,
    tau: float = TAU,
) -> CausalTable:
    """Ablation table and curves of every operation of `shots` whose base accuracy is at least MIN_ACCURACY.

    max_pairs: most questions asked for an operation. against: another setting, as many heads of whose choice are
    removed beside. tau: phi from which on a head counts as the operation's; a lower one than the paper's lengthens the
    curves. Raises MixedResults, and what opening the running model raises.
    """
    shape = bench.checkpoint.weights.shape
    limit = removal_limit(shape.n_layers * shape.n_heads)
    tasks, skipped = _tasks(bench, {one.name: one for one in relations}, shots, max_pairs, setting, tau)
    rows = []
    others = _others(bench, {one.name: one for one in relations}, tasks, against, limit)
    for done, task in enumerate(tasks.values()):
        n = min(limit, len(task.heads))
        if n:
            rows.append(_row(bench, task, tasks, n, setting, others.get(task.name)))
        else:
            skipped.append({"name": task.name, "why": f"no head reaches {tau}", **_base(task)})
        bench.progress("operations ablated", done + 1, len(tasks))
    return CausalTable(setting.name, tau, limit, tuple(rows), tuple(skipped), against.name if against else None)


def _others(
    bench: Bench,
    relations: dict[str, Relation],
    tasks: dict[str, Task],
    against: StaticSetting | None,
    limit: int,
) -> dict[str, OtherChoice]:
    if against is None or not tasks:
        return {}
    wanted = [relations[name] for name in tasks]
    chosen, _ = one_token_pairs(wanted, bench.checkpoint.vocabulary, **asdict(PairLimits()))
    static = static_scores(bench, chosen, against, store="causal-static")
    counts = {name: min(limit, len(task.heads)) for name, task in tasks.items()}
    return {name: other_choice(against.name, static[name].score, n) for name, n in counts.items()}


def _tasks(
    bench: Bench,
    relations: dict[str, Relation],
    shots: Sequence[FewShot],
    max_pairs: int | None,
    setting: StaticSetting,
    tau: float,
) -> tuple[dict[str, Task], list[dict[str, Any]]]:
    vocabulary = bench.checkpoint.vocabulary
    wanted = [relations[one.relation] for one in shots if one.relation in relations]
    chosen, few = one_token_pairs(wanted, vocabulary, **asdict(PairLimits()))
    static = static_scores(bench, chosen, setting, store="causal-static")
    skipped: list[dict[str, Any]] = [{"name": one.name, "why": one.why} for one in few]
    by_name = {one.relation: one for one in shots}
    tasks: dict[str, Task] = {}
    for done, one in enumerate(chosen):
        asked = questions(by_name[one.name], one.relation, vocabulary, bench.maker, max_pairs=max_pairs)
        if len(asked) < MIN_QUESTIONS:
            skipped.append({"name": one.name, "why": f"too few pairs to ask ({len(asked)})"})
            continue
        model = bench.model
        with bench.timed("clean runs"):
            correct = ask(model, asked, [Ablation()], batch=bench.batch)[0]
            means = mean_states(model, asked, batch=bench.batch)
        task = Task(one.name, tuple(asked), heads_of(static[one.name].score, tau=tau), correct, means)
        if task.accuracy < MIN_ACCURACY:
            skipped.append(
                {"name": one.name, "why": f"base accuracy {task.accuracy:.2f} < {MIN_ACCURACY}", **_base(task)}
            )
        else:
            tasks[one.name] = task
        bench.progress("clean accuracy", done + 1, len(chosen))
    return tasks, skipped


def _base(task: Task) -> dict[str, Any]:
    return {
        "prompts": len(task.questions),
        "heads": len(task.heads),
        "base": _interval(wilson(int(task.correct.sum()), len(task.correct))),
    }


def _row(
    bench: Bench,
    task: Task,
    tasks: dict[str, Task],
    n: int,
    setting: StaticSetting,
    other: OtherChoice | None,
) -> dict[str, Any]:
    controls = controls_of(task, tasks, n)
    identity = bench.running_identity(
        "causal",
        **setting.to_json(),
        questions=_questions_hash(task.questions),
        heads=[list(head) for head in task.heads[:n]],
        controls={one.name: _questions_hash(one.questions) for one in controls},
        **({"against": asdict(other)} if other else {}),
    )
    stored: dict[str, Any] | None = bench.folder.read(f"causal/{task.name}", identity)
    if stored is None:
        with bench.timed("ablated runs"):
            stored = _measured(bench, task, controls, n)
            if other is not None:
                stored["against"] = against_row(bench.model, task, other, n, batch=bench.batch)
        bench.folder.write(f"causal/{task.name}", identity, stored)
    return stored


def _measured(bench: Bench, task: Task, controls: Sequence[Task], n: int) -> dict[str, Any]:
    row: dict[str, Any] = {"name": task.name, **_base(task), "removed": n, "controls": [one.name for one in controls]}
    row["control_base"] = _interval(mean_rate([one.correct for one in controls]))
    for mode in MODES:
        at = steps(n) if mode == "zero" else [n]
        found = measure(bench.model, task, at, mode, batch=bench.batch)
        kept = measure_controls(bench.model, task, controls, n, mode, batch=bench.batch)
        row[mode] = {**_point(found[-1]), "control": _interval(mean_rate(kept))}
        if mode == "zero":
            row["curve"] = [{"n": 0, "relation": row["base"], "random": row["base"]}, *(_point(one) for one in found)]
    return row


def _point(one: Removal) -> dict[str, Any]:
    return {
        "n": one.n,
        "relation": _interval(wilson(int(one.relation.sum()), len(one.relation))),
        "random": _interval(repeated_rate(one.random)),
    }


def _interval(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _rounded(estimate.value), "low": _rounded(estimate.low), "high": _rounded(estimate.high)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(np.clip(value, 0, 1)), 4)


def _questions_hash(asked: Sequence[Question]) -> str:
    text = json.dumps([[one.prompt.ids, one.accepted] for one in asked])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
