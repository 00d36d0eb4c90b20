"""What the model loses when an operation's heads are removed (docs/method.md, "The checks against the running model").

Heads of R are those with phi >= tau, strongest first, at most 30 to 250 by the size of the model. Their output at the
last position is replaced by zero, or by its mean over the operation's own prompts, and accuracy is the share of
prompts whose most likely next token is an acceptable target. Compared with five draws of as many heads that are not
R's, and with control tasks that are asked while R's heads are removed: up to five other operations to which less than
15 % of the removed heads belong, with a base accuracy within 0.2 of R's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.faithfulness.running.few_shot import Question
from eval.faithfulness.running.running_model import Ablation, RunningModel
from maps_engine.relations.thresholds import TAU

Head = tuple[int, int]  # layer, head
Mode = Literal["zero", "mean"]
MODES: tuple[Mode, ...] = ("zero", "mean")
LIMITS = ((300, 30), (500, 50), (1000, 100), (1500, 150))
MOST = 250
DRAWS = 5
MIN_ACCURACY = 0.1
MAX_CONTROLS, MAX_OVERLAP, MAX_GAP = 5, 0.15, 0.2


@dataclass(frozen=True)
class Task:
    """An operation with its prompts (all of one length), its heads in order of strength and its base outcomes."""

    name: str
    questions: tuple[Question, ...]
    heads: tuple[Head, ...]
    correct: NDArray[np.bool_]  # (n,) in the clean run
    means: Tensor  # (L, H, d_h): mean z at the last position over its prompts

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


@dataclass(frozen=True)
class Removal:
    """Outcomes (right or wrong) of one operation's prompts, with `n` of its heads or as many others removed."""

    n: int
    mode: Mode
    relation: NDArray[np.bool_]  # (n prompts,)
    random: NDArray[np.bool_]  # (draws, n prompts)


def removal_limit(n_heads: int) -> int:
    """The most heads that are removed from a model of `n_heads` heads."""
    return next((limit for below, limit in LIMITS if n_heads < below), MOST)


def heads_of(scores: Tensor, *, tau: float = TAU) -> tuple[Head, ...]:
    """Heads (layer, head) with phi >= tau, strongest first; equal scores by place."""
    order = torch.argsort(scores.flatten(), descending=True, stable=True).tolist()
    width = scores.shape[1]
    return tuple((i // width, i % width) for i in order if float(scores.flatten()[i]) >= tau)


def steps(n: int) -> list[int]:
    """Where the curve is measured: 1, 2, 4, … and n."""
    doubling = [2**i for i in range(n.bit_length()) if 2**i < n]
    return [*doubling, n] if n else []


def ask(model: RunningModel, questions: Sequence[Question], ablations: Sequence[Ablation], *, batch: int) -> Outcomes:
    """(A, n) of bool: each of n questions right or wrong under each of A ablations; `batch` prompts run together."""
    right = np.zeros((len(ablations), len(questions)), dtype=np.bool_)
    by_length: dict[int, list[int]] = {}
    for i, question in enumerate(questions):
        by_length.setdefault(len(question.prompt.ids), []).append(i)
    for rows in by_length.values():
        for part in (rows[i : i + batch] for i in range(0, len(rows), batch)):
            ids = torch.tensor([questions[i].prompt.ids for i in part])
            said = model.predictions(ids, ablations).tolist()
            for column, i in enumerate(part):
                right[:, i] = [row[column] in questions[i].accepted for row in said]
    return right


Outcomes = NDArray[np.bool_]


def mean_states(model: RunningModel, questions: Sequence[Question], *, batch: int) -> Tensor:
    """(L, H, d_h): z at the last position, averaged over the prompts. Raises ValueError without prompts."""
    total, count = None, 0
    for start in range(0, len(questions), batch):
        part = [q.prompt for q in questions[start : start + batch]]
        for length in {len(prompt.ids) for prompt in part}:
            same = [prompt for prompt in part if len(prompt.ids) == length]
            states = model.head_states(torch.tensor([prompt.ids for prompt in same]), same[0].source).mixed.sum(1)
            total, count = states if total is None else total + states, count + len(same)
    if total is None:
        raise ValueError("no prompts were given")
    return total / count


def removal(heads: Sequence[Head], mode: Mode, means: Tensor) -> Ablation:
    """The ablation that removes `heads`; `means` (L, H, d_h) replace their output in the mode "mean"."""
    layers: dict[int, list[int]] = {}
    for layer, head in heads:
        layers.setdefault(layer, []).append(head)
    return Ablation(layers, means if mode == "mean" else None)


def random_orders(others: Sequence[Head], *, draws: int = DRAWS, seed: int = 0) -> list[list[Head]]:
    """`draws` orders of the heads that are not the operation's; the first n of each are one draw of n."""
    rng = np.random.default_rng(seed)
    return [[others[i] for i in rng.permutation(len(others))] for _ in range(draws)]


def controls_of(task: Task, tasks: Mapping[str, Task], n: int) -> list[Task]:
    """Up to MAX_CONTROLS other tasks that can serve as controls when `n` heads are removed, nearest accuracy first."""
    removed = set(task.heads[:n])
    fitting = []
    for other in tasks.values():
        gap = abs(other.accuracy - task.accuracy)
        shared = len(removed & set(other.heads)) / max(1, len(removed))
        if other.name != task.name and shared < MAX_OVERLAP and gap < MAX_GAP:
            fitting.append((gap, other.name))
    return [tasks[name] for _, name in sorted(fitting)[:MAX_CONTROLS]]


def measure(
    model: RunningModel, task: Task, n_removed: Sequence[int], mode: Mode, *, batch: int, seed: int = 0
) -> list[Removal]:
    """One removal for each of `n_removed`: the strongest heads of the operation, and random others, taken out."""
    own = set(task.heads)
    shape = model.shape
    others = [(i, j) for i in range(shape.n_layers) for j in range(shape.n_heads) if (i, j) not in own]
    orders = random_orders(others, seed=seed)
    ablations = []
    for n in n_removed:
        ablations += [removal(heads[:n], mode, task.means) for heads in (task.heads, *orders)]
    right = ask(model, task.questions, ablations, batch=batch).reshape(len(n_removed), len(orders) + 1, -1)
    return [Removal(n, mode, right[i, 0], right[i, 1:]) for i, n in enumerate(n_removed)]


def measure_controls(
    model: RunningModel, task: Task, controls: Sequence[Task], n: int, mode: Mode, *, batch: int
) -> list[NDArray[np.bool_]]:
    """(n prompts,) outcomes of each control task while the first `n` heads of `task` are removed."""
    found = []
    for control in controls:
        ablation = removal(task.heads[:n], mode, control.means)
        found.append(ask(model, control.questions, [ablation], batch=batch)[0])
    return found
