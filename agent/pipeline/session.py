"""One head described. `HeadSession` holds what the steps share; `agent.pipeline.graph` says in which order they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.checks.intruder import EmbeddingJudge, intruder_test
from agent.checks.new_pairs import PlannedTest, finish_test, plan_test
from agent.checks.pair_cache import PairCachingEngine
from agent.checks.trials import Scorer
from agent.describers.factory import Describer, make_describer
from agent.describers.protocol import PairProposer
from agent.llm.options import MAX_REVISIONS, ModelOptions
from agent.llm.token_usage import NO_USAGE, Usage, metered
from agent.operations.store import KnownOperationStore, open_store
from agent.pipeline.graph import Finding, HeadAgent
from agent.pipeline.head_tools import HeadTools
from agent.pipeline.neighbours import Neighbours
from agent.results import Evidence, HeadDescription, HeadReport, IntruderTest, Retrieved, TestResult
from agent.words.embedder import load_embedder
from agent.words.fields import SemanticFields
from agent.words.mapping_vectors import MappingEmbedder
from maps_engine.engine import MapsEngine
from maps_engine.folders import cache_folder
from maps_engine.relations.catalogue import Relation, load_relations
from maps_engine.results import EngineSettings, HeadMapping

RETRIEVED = 5
DEFAULT_MODEL_OPTIONS = ModelOptions()
NOT_TESTED = "not tested yet"
Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Tells nobody."""


@dataclass
class HeadSession:
    """An opened model with a describer and the store's settings; everything heavy is made on first use."""

    engine: MapsEngine
    describer_name: str = "lexical"
    use_cache: bool = True
    store_folder: Path | None = None
    store_url: str | None = None
    progress: Progress = _silent
    model_options: ModelOptions = DEFAULT_MODEL_OPTIONS
    max_revisions: int = MAX_REVISIONS

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        return load_relations()

    @cached_property
    def fields(self) -> SemanticFields:
        return SemanticFields(load_embedder(), cache_folder=cache_folder() if self.use_cache else None)

    @cached_property
    def mapping_embedder(self) -> MappingEmbedder:
        return MappingEmbedder(self.fields)

    @cached_property
    def describer(self) -> Describer:
        return make_describer(
            self.describer_name,
            fields=lambda: self.fields,
            relations=self.relations,
            options=self.model_options,
            max_revisions=self.max_revisions,
        )

    @cached_property
    def agent(self) -> HeadAgent:
        """The graph of the steps."""
        return HeadAgent(self)

    @cached_property
    def scorer(self) -> Scorer:
        """The engine as threads share it."""
        return Scorer(self.engine)

    @cached_property
    def neighbours(self) -> Neighbours:
        return Neighbours(self.engine, lambda: self.mapping_embedder, self.scorer.lock)

    def extract(self, layer: int, head: int) -> HeadMapping:
        """Salient tokens and mappings of one head."""
        self.engine.check_head(layer, head)
        self.progress(f"reading head {layer}.{head}")
        return self.engine.map_head(layer, head)

    def retrieve(self, mapping: HeadMapping, store: KnownOperationStore, n: int = RETRIEVED) -> tuple[Retrieved, ...]:
        """Known operations whose mappings are alike."""
        return store.retrieve(mapping, n)

    def propose(self, mapping: HeadMapping, retrieved: tuple[Retrieved, ...]) -> HeadDescription:
        """The describer's answer; it never sees the held-out rows."""
        self.progress(f"describing with {self.describer.name}")
        return self.describer.describe(Evidence.of(mapping, retrieved))

    def intruder(self, mapping: HeadMapping) -> IntruderTest | None:
        """Whether the head's rows can be told from other heads'."""
        with self.scorer.lock:
            return intruder_test(mapping, self.engine, EmbeddingJudge(self.fields))

    def tools(self, mapping: HeadMapping) -> HeadTools:
        """What a language model may look up about this head."""
        return HeadTools(mapping, self.scorer, self.neighbours)

    def plan(self, report: HeadReport) -> PlannedTest:
        """The final test of a report, before its pairs are scored."""
        return plan_test(
            report.description,
            report.mapping,
            vocabulary=self.engine.checkpoint.vocabulary,
            relations=self.relations,
            proposer=self.describer if isinstance(self.describer, PairProposer) else None,
            seen=report.trace.seen,
            judging=report.trace.judging,
        )

    @contextmanager
    def store(self) -> Iterator[KnownOperationStore]:
        """The store of known operations, owned while it is open."""
        self.progress("opening the known operations")
        folder, url = self.store_folder, self.store_url
        with open_store(self.mapping_embedder, self.relations, folder=folder, url=url) as store:
            yield store

    def describe(self, layer: int, head: int) -> HeadReport:
        """All steps for one head, then the final test."""
        _ = self.describer  # a describer that lacks its settings is refused before any work
        found, usage = metered(lambda: self.agent.run(layer, head))
        report = self.untested(found, usage)
        if report.description.status == "ok":
            self.progress("testing the description on all heads")
        return replace(report, test=finish_test(self.plan(report), self.engine))

    def untested(self, found: Finding, usage: Usage = NO_USAGE) -> HeadReport:
        """The report of a finding, its final test still to come."""
        test = TestResult("not testable", found.description.operation, NOT_TESTED)
        trace = replace(found.trace, usage=usage)
        return HeadReport(
            found.mapping, found.retrieved, found.description, test, self.provenance(found.mapping), trace
        )

    def provenance(self, mapping: HeadMapping) -> dict[str, Any]:
        """All that made the result: checkpoint, source, describer with its settings, embedder."""
        return {
            "checkpoint": self.engine.checkpoint.location,
            "fingerprint": mapping.fingerprint,
            "family": self.engine.checkpoint.weights.family,
            "settings": {name: getattr(mapping.settings, name) for name in mapping.settings.__slots__},
            "describer": self.describer.name,
            "describer_settings": dict(self.describer.settings),
            "embedder": self.mapping_embedder.name,
            "source_choice": asdict(mapping.source_choice) if mapping.source_choice else None,
        }


def describe_head(
    model: str,
    layer: int,
    head: int,
    *,
    describer: str = "lexical",
    settings: EngineSettings | None = None,
    source: str = "auto",
    revision: str | None = None,
    device: str = "auto",
    use_cache: bool = True,
    store_folder: Path | None = None,
    store_url: str | None = None,
    progress: Progress = _silent,
    model_options: ModelOptions = DEFAULT_MODEL_OPTIONS,
    max_revisions: int = MAX_REVISIONS,
) -> HeadReport:
    """What head `head` of layer `layer` does (both from 0), with evidence and tests.

    `settings` decides the numbers; `source` takes the place of its source. Raises HeadscribeError.
    """
    wanted = replace(settings, source=source) if settings else EngineSettings(source=source)
    progress(f"opening {model}")
    engine = PairCachingEngine.open(model, settings=wanted, revision=revision, device=device)
    session = HeadSession(
        engine,
        describer_name=describer,
        use_cache=use_cache,
        store_folder=store_folder,
        store_url=store_url,
        progress=progress,
        model_options=model_options,
        max_revisions=max_revisions,
    )
    return session.describe(layer, head)
