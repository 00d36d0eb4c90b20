"""One head described: extract → retrieve → propose → test, each a step of its own.

`HeadSession` holds what the steps share, so that they can be run in another order or again (a graph of them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.describers import Describer, make_describer
from agent.describers.fields import SemanticFields
from agent.description_test import PairProposer, run_description_test
from agent.embedder import load_embedder
from agent.known_operations import KnownOperationStore, open_store
from agent.mapping_embedding import MappingEmbedder
from agent.results import Evidence, HeadDescription, HeadReport, Retrieved, TestResult
from maps_engine.engine import MapsEngine
from maps_engine.folders import cache_folder
from maps_engine.relation_catalogue import Relation, load_relations
from maps_engine.results import EngineSettings, HeadMapping

RETRIEVED = 5
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
        return make_describer(self.describer_name, fields=self.fields, relations=self.relations)

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

    def test(self, description: HeadDescription, mapping: HeadMapping) -> TestResult:
        """The description against new pairs on all heads, and against held-out rows."""
        if description.status == "ok":
            self.progress("testing the description on all heads")
        proposer = self.describer if isinstance(self.describer, PairProposer) else None
        return run_description_test(
            description, mapping, engine=self.engine, relations=self.relations, proposer=proposer
        )

    @contextmanager
    def store(self) -> Iterator[KnownOperationStore]:
        """The store of known operations, owned while it is open."""
        self.progress("opening the known operations")
        folder, url = self.store_folder, self.store_url
        with open_store(self.mapping_embedder, self.relations, folder=folder, url=url) as store:
            yield store

    def describe(self, layer: int, head: int) -> HeadReport:
        """All steps for one head."""
        _ = self.describer  # a describer that lacks its settings is refused before any work
        mapping = self.extract(layer, head)
        with self.store() as store:
            retrieved = self.retrieve(mapping, store)
        description = self.propose(mapping, retrieved)
        return HeadReport(mapping, retrieved, description, self.test(description, mapping), self.provenance(mapping))

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
) -> HeadReport:
    """What head `head` of layer `layer` does (both from 0), with evidence and tests.

    `settings` decides the numbers; `source` takes the place of its source. Raises HeadscribeError.
    """
    wanted = replace(settings, source=source) if settings else EngineSettings(source=source)
    progress(f"opening {model}")
    engine = MapsEngine.open(model, settings=wanted, revision=revision, device=device)
    session = HeadSession(
        engine,
        describer_name=describer,
        use_cache=use_cache,
        store_folder=store_folder,
        store_url=store_url,
        progress=progress,
    )
    return session.describe(layer, head)
