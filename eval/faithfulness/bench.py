"""One model set up for the experiments: the engine that reads weights, the same model running, a folder for results."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from eval.faithfulness.dynamic_scores import Projection, Projector
from eval.faithfulness.running.running_model import RunningModel
from eval.faithfulness.running.templates import TEMPLATES, PromptMaker
from eval.results_folder import Identity, ResultsFolder
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.model import Checkpoint

Progress = Callable[[str, int, int], None]
"""What is going on, how much of it is done, out of how much."""


def silent(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


@dataclass
class Bench:
    """All that an experiment needs; the running model is opened when it is first used."""

    checkpoint: Checkpoint
    folder: ResultsFolder
    dtype: str = "float32"
    attention: str = "eager"
    revision: str | None = None
    batch: int = 64
    templates: tuple[str, ...] = TEMPLATES  # of the prompts that dynamic scores are made of
    progress: Progress = silent
    costs: dict[str, tuple[float, float]] = field(default_factory=dict)  # stage -> seconds by the clock, of processor

    @classmethod
    def open(cls, model: str, out: Path, *, device: str = "auto", revision: str | None = None, **options: Any) -> Bench:
        """The model of that name, results below `out`; options are the fields below. Raises as `open_checkpoint`."""
        checkpoint = open_checkpoint(model, revision=revision, device=device)
        return cls(checkpoint, ResultsFolder(out), revision=revision, **options)

    @cached_property
    def model(self) -> RunningModel:
        """The same checkpoint as a model that runs. Raises as `open_running_model`."""
        from eval.faithfulness.running.transformers_model import open_running_model

        with self.timed("opening the running model"):
            return open_running_model(
                self.checkpoint, dtype=self.dtype, attention=self.attention, revision=self.revision
            )

    @cached_property
    def maker(self) -> PromptMaker:
        """Makes prompts with the checkpoint's own tokenizer."""
        return PromptMaker.for_checkpoint(self.checkpoint, revision=self.revision)

    @cached_property
    def projectors(self) -> dict[Projection, Projector]:
        """Both projections; the plain one is the paper's."""
        return {"plain": Projector(self.checkpoint, "plain"), "folded": Projector(self.checkpoint, "folded")}

    def identity(self, kind: str, **more: Any) -> Identity:
        """What decides the numbers of one file that needs no running model."""
        return {"format": 1, "kind": kind, "fingerprint": self.checkpoint.fingerprint, **more}

    def running_identity(self, kind: str, **more: Any) -> Identity:
        """The same where the model runs: its dtype and attention too."""
        return self.identity(kind, dtype=self.dtype, attention=self.attention, **more)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the seconds of the block to `costs`."""
        start, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            before = self.costs.get(stage, (0.0, 0.0))
            wall, cpu = time.perf_counter() - start, time.process_time() - busy
            self.costs[stage] = (before[0] + wall, before[1] + cpu)

    def cost(self) -> dict[str, Any]:
        """Seconds by stage, and the largest memory of this process so far, in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        on_gpu = torch.cuda.max_memory_allocated() / 2**20 if self.checkpoint.weights.device.type == "cuda" else 0.0
        return {
            "device": str(self.checkpoint.weights.device),
            "threads": torch.get_num_threads(),
            "seconds": {stage: round(wall, 1) for stage, (wall, _) in self.costs.items()},
            "processor_seconds": {stage: round(cpu, 1) for stage, (_, cpu) in self.costs.items()},
            "peak_memory_mib": round(peak),
            "peak_gpu_memory_mib": round(on_gpu),
        }


def added_cost(cost: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The cost of a run that continued an earlier one (`before`): seconds are added, memory is the larger."""
    whole = dict(cost)
    for part in ("seconds", "processor_seconds"):
        stages = {**before[part], **cost[part]}
        whole[part] = {name: round(before[part].get(name, 0) + cost[part].get(name, 0), 1) for name in stages}
    for part in ("peak_memory_mib", "peak_gpu_memory_mib"):
        whole[part] = max(cost[part], before[part])
    return whole
