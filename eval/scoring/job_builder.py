"""From a request to the job that carries it out: heads, weights and judge, each opened when it is first used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from agent.checks.pair_scorer import PairScorer
from agent.llm.options import ModelOptions
from agent.pipeline.request import DescribeRequest, parse_indices
from agent.pipeline.stored_model import open_stored_model
from agent.pipeline.workbench import equip
from eval.judges.opening import open_judge
from eval.judges.protocol import Judge
from eval.scoring.collection import Collection, chosen, described_now, of_file, of_run
from eval.scoring.job import ScoreJob, Tell
from eval.scoring.keepers import DatabaseKeeper, JsonlKeeper, Keeper
from eval.scoring.questions.foreign_rows import borrowed_rows, rows_from_weights
from eval.scoring.questions.generation import Generator
from eval.scoring.questions.scorers import GENERATION
from eval.scoring.request import ScoreRequest
from eval.scoring.results import HeadKey
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.ov.sources import SOURCE_NAMES
from maps_engine.relations.catalogue import Relation, load_relations
from maps_engine.results import EngineSettings

if TYPE_CHECKING:
    from sqlalchemy import Engine

DEFAULT_MODEL: Final = "smollm2-135m"
OTHER_MODEL: Final = "Give its place with --model, or score without it: --no-weights."


@dataclass
class JobBuilder:
    """Opens what a request needs, and nothing that it does not need."""

    request: ScoreRequest

    @cached_property
    def database(self) -> Engine | None:
        """The database of runs; None where the heads come from elsewhere. Raises DatabaseUnusable."""
        from agent.runs.database import open_database

        request = self.request
        from_database = request.from_file is None and request.layer is None
        return open_database(request.database) if from_database else None

    @cached_property
    def collection(self) -> Collection:
        """The heads at hand. Raises UnknownRun, BadImport, UserMistake, OutOfRange, UnknownDescriber."""
        request = self.request
        if request.from_file is not None:
            return of_file(request.from_file)
        if self.database is not None:
            return of_run(self.database, request.run, model=request.model)
        return self._described_now(request.layer or 0, request.head or 0)

    def _described_now(self, layer: int, head: int) -> Collection:
        self.engine.check_head(layer, head)
        bench = equip(self.engine, DescribeRequest(describer=self.request.describer))
        return described_now(bench, layer, workers=self.request.workers)

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        return load_relations()

    @cached_property
    def judge(self) -> Judge:
        """The judge asked for. Raises UnknownDescriber, ExtraMissing."""
        request = self.request
        options = ModelOptions(in_flight=request.workers, token_budget=request.token_budget)
        return open_judge(request.judge, options=options, relations=lambda: self.relations)

    @cached_property
    def engine(self) -> MapsEngine:
        """The model of the heads. Raises UserMistake where it is another, or cannot be opened."""
        request = self.request
        if request.layer is not None:
            wanted = EngineSettings(request.source)
            return MapsEngine.open(request.model or DEFAULT_MODEL, settings=wanted, device=request.device)
        name, settings = request.model or self.collection.model, self.collection.settings
        _refuse_former_readings(self.collection)
        return open_stored_model(
            name,
            fingerprint=self.collection.fingerprint,
            settings=settings,
            device=request.device,
            next_step=OTHER_MODEL,
        )

    def keys(self) -> list[HeadKey]:
        """(layer, head) of the heads to score, in order. Raises OutOfRange, UserMistake where none is described."""
        request, collection = self.request, self.collection
        if request.layer is not None and request.head is not None:
            found = [one.key for one in collection.described if one.key == (request.layer, request.head)]
        else:
            last = [max(one.key[i] for one in collection.subjects) + 1 for i in (0, 1)]
            found = chosen(
                collection.described,
                layers=parse_indices(request.layers, last[0], "layer"),
                heads=parse_indices(request.heads, last[1], "head"),
                limit=request.limit,
                seed=request.seed,
            )
        if not found:
            asked = f"{len(collection.subjects)} heads of {collection.origin}, {len(collection.described)} described"
            raise UserMistake("none of the chosen heads has a description", got=asked)
        return found

    def job(self, tell: Tell) -> ScoreJob:
        """The job, ready to run; `tell` hears of its progress. Raises what the parts raise."""
        request = self.request
        keys = self.keys()
        generator = Generator(PairScorer(self.engine), self.relations) if GENERATION in request.names else None
        return ScoreJob(
            collection=self.collection,
            keys=keys,
            scorers=request.names,
            judge=self.judge,
            items=request.items,
            seed=request.seed,
            workers=request.workers,
            rows_of=rows_from_weights(self.engine) if request.weights else borrowed_rows,
            generator=generator,
            tell=tell,
        )

    def keepers(self, job: ScoreJob) -> list[Keeper]:
        """Where the job's scores are kept: the run's database, and every .jsonl of --output.

        Raises MixedResults where such a file holds scores of other settings, BadImport where it holds something else.
        """
        identity = job.identity()
        found: list[Keeper] = [
            JsonlKeeper(path, identity) for path in self.request.output if path.suffix.lower() == ".jsonl"
        ]
        if self.database is not None and self.collection.run_id is not None:
            found.append(DatabaseKeeper(self.database, self.collection.run_id, identity))
        return found


def _refuse_former_readings(collection: Collection) -> None:
    """Raise UserMistake where a head was read as this version reads none: its rows cannot be made again."""
    gone = {one.mapping.source for one in collection.subjects} - {"auto", *SOURCE_NAMES}
    if gone:
        raise UserMistake(
            "heads of this run were read in a way that is no longer there",
            got=", ".join(sorted(gone)),
            expected=", ".join(SOURCE_NAMES),
            next_step="Score without the weights: --no-weights; or label the heads again.",
        )
