"""What the steps of the pipeline work with: an opened model, a describer, and where known operations lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from agent.checks import claims, controls, intruder, new_pairs, trials
from agent.checks.offers import catalogue_scores, class_scores, part_classes, strongest
from agent.checks.offers.catalogue_scores import CatalogueScores
from agent.checks.offers.class_scores import ClassScores
from agent.checks.offers.part_classes import PartClasses
from agent.checks.offers.strongest import StrongestTargets
from agent.checks.pair_scorer import PairScorer
from agent.describers.asking import facts, part_names
from agent.describers.factory import chosen_name, make_describer
from agent.describers.lexical import LexicalDescriber
from agent.describers.protocol import Describer, PartNamer, RankingDescriber
from agent.operations.store import KnownOperationStore, open_store
from agent.pipeline import head_operations
from agent.pipeline.asking import head_tools
from agent.pipeline.asking.neighbours import Neighbours
from agent.pipeline.attention import AttentionReader, attention_rules
from agent.pipeline.request import DescribeRequest
from agent.results.evidence import Evidence, Retrieved
from agent.results.reports import Provenance
from agent.runs.identity import RunIdentity, constants_hash, content_hash
from agent.runs.state import HeadKey
from agent.words.embedder import load_embedder
from agent.words.fields import SemanticFields
from agent.words.mapping_vectors import MappingEmbedder
from agent.words.word_classes import word_classes_version
from maps_engine import undertrained
from maps_engine.engine import MapsEngine
from maps_engine.folders import cache_folder
from maps_engine.ov import centred
from maps_engine.parts import grouping, head_parts
from maps_engine.relations.catalogue import Relation, load_relations
from maps_engine.results import HeadMapping
from prompts import load_prompts

RULES: Final = (
    catalogue_scores, claims, class_scores, controls, intruder, new_pairs, part_classes, strongest, trials, head_tools,
    facts, part_names, head_operations, undertrained, centred, grouping, head_parts,
)  # fmt: skip
RETRIEVED: Final = 5  # known operations that a describer is shown
RETRIEVED_OF_PART: Final = 3
Tell = Callable[[str], None]


def silent(_: str) -> None:
    """The `Tell` of a caller who wants no word of progress."""


@dataclass(frozen=True)
class Workbench:
    """One model and one describer, shared by all heads and threads of a process. Made by `open_workbench`."""

    maps: MapsEngine
    describer: Describer
    counted: RankingDescriber | None  # gives claims that can take the place of what `describer` says
    relations: tuple[Relation, ...]
    fields: SemanticFields
    vectors: MappingEmbedder
    open_operations: Callable[[], AbstractContextManager[KnownOperationStore]]  # one process owns them at a time
    scorer: PairScorer
    catalogue: CatalogueScores
    classes: ClassScores
    of_parts: PartClasses
    neighbours: Neighbours
    attention: AttentionReader | None  # None: what heads attend to is not read

    def provenance(self, mapping: HeadMapping) -> Provenance:
        """All that made a description of `mapping`."""
        return Provenance(
            checkpoint=self.maps.checkpoint.location,
            fingerprint=mapping.fingerprint,
            family=self.maps.checkpoint.weights.family,
            settings=mapping.settings,
            describer=self.describer.name,
            describer_settings=dict(self.describer.settings),
            embedder=self.vectors.name,
        )

    def evidence(self, mapping: HeadMapping, retrieved: tuple[Retrieved, ...]) -> Evidence:
        """The rows that may be seen, and what was counted of the head on words that no test uses."""
        place = mapping.layer, mapping.head
        return Evidence.of(
            mapping,
            retrieved,
            known=self.catalogue.of_head(*place),
            classes=self.classes.of_head(*place),
            shared=self.classes.shared_by(*place),
            part_classes=self.of_parts.of_head(mapping),
        )

    @property
    def identity(self) -> RunIdentity:
        """Everything that decides the descriptions: equal identities share one run (docs/design.md)."""
        operations = content_hash([[r.name, r.description, r.pairs] for r in self.relations])
        retrieval = {"embedder": self.vectors.name, "n": RETRIEVED, "operations": operations}
        if isinstance(self.describer, PartNamer):
            retrieval |= {"n_of_part": RETRIEVED_OF_PART}
        besides = {"counted": dict(self.counted.settings)} if self.counted else {}
        return RunIdentity(
            fingerprint=self.maps.checkpoint.fingerprint,
            engine=self.maps.settings,
            prompt_hash=prompt_hash(),
            describer=self.describer.name,
            describer_settings=dict(self.describer.settings) | {"retrieval": retrieval, "test": self._test} | besides,
        )

    @property
    def _test(self) -> dict[str, Any]:
        """What pairs are scored under, and the rules of offers and verdicts, whatever the rows were read under."""
        return {
            "source": self.scorer.source,
            "lead_in": list(self.maps.settings.lead_in),
            "word_classes": word_classes_version(),
            "rules": constants_hash(RULES),
            "attention": attention_rules() if self.attention else None,
        }


def open_workbench(request: DescribeRequest, *, device: str | None = None, heads: Iterable[HeadKey] = ()) -> Workbench:
    """Open the model and the describer of a request; `device` takes the place of the request's.

    Raises OutOfRange for one of `heads` that the model has not, and any other HeadscribeError.
    """
    maps = MapsEngine.open(
        request.model, settings=request.settings, revision=request.revision, device=device or request.device
    )
    for layer, head in heads:
        maps.check_head(layer, head)
    return equip(maps, request)


def equip(maps: MapsEngine, request: DescribeRequest) -> Workbench:
    """A workbench for a model that is open already; of `request`, what concerns the words."""

    @cache
    def fields() -> SemanticFields:  # made when the describer is known: MiniLM may have to be fetched
        return SemanticFields(load_embedder(), cache_folder=cache_folder() if request.use_cache else None)

    relations = load_relations()
    describer = make_describer(
        chosen_name(request.describer),
        fields=fields,
        relations=relations,
        options=request.model_options,
        max_revisions=request.max_revisions,
        most_parts=request.most_parts,
    )
    return assemble(
        maps,
        describer=describer,
        counted=request.counted,
        attention=request.attention,
        fields=fields(),
        folder=request.store_folder,
        url=request.store_url,
        use_cache=request.use_cache,
    )


def assemble(
    maps: MapsEngine,
    *,
    describer: Describer,
    fields: SemanticFields,
    counted: bool = False,
    attention: bool = True,
    folder: Path | None = None,
    url: str | None = None,
    use_cache: bool = True,
) -> Workbench:
    """A workbench of opened parts; `folder` or `url` say where the known operations lie (`agent.operations.store`).

    counted: beside a describer that gives one description, the lexical one counts too.
    attention: what heads attend to is read too.
    """
    relations, vectors = load_relations(), MappingEmbedder(fields)
    beside = counted and not isinstance(describer, RankingDescriber)
    scorer = PairScorer(maps, cache_folder() if use_cache else None)
    classes = ClassScores(StrongestTargets(scorer))
    return Workbench(
        maps=maps,
        describer=describer,
        counted=LexicalDescriber(fields, relations) if beside else None,
        relations=relations,
        fields=fields,
        vectors=vectors,
        open_operations=partial(open_store, vectors, relations, folder=folder, url=url),
        scorer=scorer,
        catalogue=CatalogueScores(scorer, relations),
        classes=classes,
        of_parts=PartClasses(classes),
        neighbours=Neighbours(maps, vectors, scorer.lock),
        attention=AttentionReader(maps, cache_folder() if use_cache else None) if attention else None,
    )


def prompt_hash() -> str:
    """One hash over field labels and all templates but those that score descriptions afterwards."""
    prompts = load_prompts()
    versions = {name: one.version for name, one in prompts.templates.items() if not name.startswith("score_")}
    return content_hash([versions, prompts.field_labels_version])[:32]
