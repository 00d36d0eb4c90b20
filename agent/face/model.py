"""An opened model, its heads, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.face.composition import CompositionTable
from agent.face.progress import Progress, shown
from agent.face.results import Description, LabelledHeads, MappingTable, RelationTable, as_html
from agent.llm.options import MAX_REVISIONS, NAMED_PARTS, ModelOptions
from agent.pipeline.attention import AttentionReader
from agent.pipeline.flow import never
from agent.pipeline.label import label, prepare
from agent.pipeline.one_head import describe_on, record_head
from agent.pipeline.request import DEFAULT_WORKERS, DescribeRequest, LabelRequest
from agent.pipeline.workbench import Workbench, equip, silent
from agent.pipeline.worker import Event, HeadDone
from agent.runs.database import open_database
from maps_engine.checkpoints.opening import open_checkpoint, open_in_memory
from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.folders import cache_folder
from maps_engine.qk.composition import Edge, n_steps, read_composition
from maps_engine.qk.kinds import READINGS, kinds, reading, sentence
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.format import Relation
from maps_engine.relations.own import own_relation
from maps_engine.relations.thresholds import MIN_PAIRS
from maps_engine.results import EngineSettings, HeadAttention, HeadPart
from maps_engine.scores.table import score_relations

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def open_model(
    model: str | Path | PreTrainedModel = "smollm2-135m",
    *,
    tokenizer: PreTrainedTokenizerBase | Tokenizer | None = None,
    revision: str | None = None,
    source: str = "auto",
    lead_in: Sequence[str] = ("",),
    words: int | None = None,
    device: str = "auto",
    top: int = 30,
    targets: int = 5,
    fold_norms: bool = False,
    fold_biases: bool = False,
) -> Model:
    """Open a model; of one on disk nothing but headers is read yet.

    Args:
        model: a built-in alias, a hub id, a folder, a GGUF file, or a transformers model in memory.
        tokenizer: needed with a model in memory, and with nothing else.
        revision: of a hub id: branch, tag or commit.
        source: what a head is given to read (`docs/method.md`, "Source representations"): "auto" (the best
            that fits the machine), "residual", "first-mlp" (the paper's) or "embedding".
        words: salient tokens are looked for among so many ordinary words; 0 is all tokens, None what `source` takes.
        lead_in: read before each token, after the start of texts; of several texts, the mean of what is read.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        top: salient tokens of a mapping.
        targets: strongest targets of each.
        fold_norms, fold_biases: norm gains and biases folded into the head's matrices; the paper folds none.

    Returns: the model; `model.head(layer, head)` is one of its heads.

    Raises: UnknownModel, UnsupportedModel, BrokenCheckpoint, UserMistake (all of them `HeadscribeError`).
    """
    settings = EngineSettings(
        source, fold_norms, fold_biases, top=top, targets=targets, lead_in=tuple(lead_in), words=words
    )
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise UserMistake("a tokenizer goes with a model in memory only", got=f"model {str(model)!r}")
        checkpoint = open_checkpoint(str(model), revision=revision, device=device)
    else:
        checkpoint = open_in_memory(model, tokenizer, device=device)
    return Model(MapsEngine(checkpoint, settings))


@dataclass(frozen=True, eq=False)
class Model:
    """One opened model under one choice of settings. Made by `open_model`.

    `maps` is the engine of maps, for whatever this class does not offer.
    """

    maps: MapsEngine
    _benches: dict[DescribeRequest, Workbench] = field(default_factory=dict, repr=False)
    _composition: list[CompositionTable] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """As it was opened."""
        return self.maps.checkpoint.name

    @property
    def n_layers(self) -> int:
        """Layers, counted from 0 everywhere."""
        return self.maps.shape.n_layers

    @property
    def n_heads(self) -> int:
        """Query heads of a layer."""
        return self.maps.shape.n_heads

    def head(self, layer: int, head: int) -> Head:
        """Head `head` of layer `layer`, both from 0. Raises OutOfRange."""
        self.maps.check_head(layer, head)
        return Head(self, layer, head)

    def relations(
        self,
        relations: Sequence[str | Relation] | None = None,
        *,
        pairs: Mapping[str, Iterable[tuple[str, str]]] | None = None,
        k: int | None = None,
        min_pairs: int = MIN_PAIRS,
        source: str | None = None,
        progress: Progress | None = None,
    ) -> RelationTable:
        """How strongly every head implements known operations (the paper, section 3.1: phi).

        Args:
            relations: names of the catalogue, or `Relation`s; None is the whole catalogue, unless `pairs` are given.
            pairs: operations of your own: name to (source, target) words, with a leading space where a token has one.
            k: targets that count, instead of each operation's own.
            min_pairs: one-token pairs that an operation needs to be scored.
            source: what heads are given to read, instead of the model's; where that was left to "auto", "residual".
            progress: called as (done, total, what); by default a bar on a terminal and in a notebook.

        Returns: scores (layers, heads) of each operation, promotion and suppression, with p against shuffled pairs.

        Raises: UserMistake for unknown names; BadRelationFile for pairs that are none.
        """
        own = [own_relation(name, rows) for name, rows in (pairs or {}).items()]
        named = [one for one in relations or () if isinstance(one, str)]
        given = [one for one in relations or () if isinstance(one, Relation)]
        catalogue = load_relations(named or None) if named or (relations is None and pairs is None) else ()
        chosen = [*catalogue, *given, *own]
        through = self.maps.for_scores(source)
        with shown(progress, f"{len(chosen)} operations", self.n_layers) as step:
            scores = score_relations(
                self.maps, chosen, source=through, k=k, min_pairs=min_pairs, progress=lambda _: step(through)
            )
        return RelationTable(scores)

    def attention(self, *, progress: Progress | None = None) -> pd.DataFrame:
        """What every head attends to, from the weights: one row a head (docs/method.md, "What a head attends to").

        Columns are mean attention weights: `previous` token, `self`, `first` token and, in texts that repeat as the
        model itself reads them, `duplicate` (the same word, read before) and `induction` (what followed it then);
        `reach`, the mean distance in tokens; `kinds`, and `said`, both in one sentence.

        Raises: UserMistake, UnsupportedModel (attention that cannot be read, or fewer places than texts need).
        """
        import pandas as pd

        layers = self._attention_to(self.n_layers - 1, progress)
        return pd.DataFrame(
            {"layer": one.layer, "head": one.head}
            | {name: reading(one, name) for name in READINGS}
            | {"reach": one.reach, "kinds": ", ".join(kinds(one)), "said": sentence(one)}
            for heads in layers
            for one in heads
        )

    @cached_property
    def _attention(self) -> AttentionReader:
        return AttentionReader(self.maps, cache_folder())

    def _attention_to(self, last: int, progress: Progress | None = None) -> Sequence[tuple[HeadAttention, ...]]:
        """Of all heads of layers up to `last`; read once for all that are asked for later."""
        with shown(progress, "attention of heads", last + 1) as step:
            return self._attention.layers(last, lambda done, _: step(f"layer {done - 1}"))

    def composition(self, *, progress: Progress | None = None) -> CompositionTable:
        """Which earlier heads feed every head's keys, queries and values (docs/method.md, "What feeds a head").

        Read once, from the weights alone. Raises: UnsupportedModel (OPT-350m), BrokenCheckpoint.
        """
        if not self._composition:
            with shown(progress, "composition of heads", n_steps(self.maps.shape)) as step:
                found = read_composition(self.maps.checkpoint, progress=lambda layer: step(f"layer {layer}"))
            self._composition.append(CompositionTable(found))
        return self._composition[0]

    def label(
        self,
        *,
        store: str | Path | None = None,
        layers: str | None = None,
        heads: str | None = None,
        describer: str = "auto",
        workers: int = DEFAULT_WORKERS,
        model_options: ModelOptions | None = None,
        max_revisions: int = MAX_REVISIONS,
        name_parts: int = NAMED_PARTS,
        counted: bool = True,
        attention: bool = True,
        operations: str | Path | None = None,
        progress: Progress | None = None,
    ) -> LabelledHeads:
        """Describe all heads, or some, in one resumable run: the same run as `label-heads` with these settings.

        Args:
            store: SQLite file or postgresql:// address of the runs; None is the user's own database.
            layers, heads: such as "0-11,20"; None is all.
            describer: "auto", "lexical", "openai:MODEL", "local:PATH_OR_ID" or a LangChain provider's;
                "choose:" before one of these models lets it choose among what "lexical" counts.
            workers: replies of a language model in flight.
            model_options, max_revisions, name_parts, counted, attention, operations: as of `Head.describe`.
            progress: called as (done, total, what); by default a bar on a terminal and in a notebook.

        Returns: the heads asked for, those that an earlier call has done included.

        Raises: UserMistake, OutOfRange, DescriberDown, DatabaseUnusable (all of them `HeadscribeError`).
        """
        how = self.request(
            describer, model_options, max_revisions, name_parts, operations, counted=counted, attention=attention
        )
        request = LabelRequest(**vars(how), layers=layers, heads=heads, workers=workers)
        plan = prepare(request, database=None if store is None else str(store), bench=self.bench(how))
        with shown(progress, "heads", plan.before.total, done=plan.before.done) as step:

            def on_event(event: Event) -> None:
                if isinstance(event, HeadDone):
                    step(f"{event.layer}.{event.head} {event.status}")

            label(plan, on_event=on_event, stop=never)
        return LabelledHeads.of_run(plan.database, plan.job.run_id, plan.job.keys)

    def request(
        self,
        describer: str = "auto",
        model_options: ModelOptions | None = None,
        max_revisions: int = MAX_REVISIONS,
        name_parts: int = NAMED_PARTS,
        operations: str | Path | None = None,
        *,
        counted: bool = True,
        attention: bool = True,
    ) -> DescribeRequest:
        """How heads of this model are to be described, as the pipeline takes it."""
        url = str(operations) if operations is not None and "://" in str(operations) else None
        return DescribeRequest(
            model=self.name,
            settings=self.maps.settings,
            describer=describer,
            device=str(self.maps.checkpoint.weights.device),
            store_folder=Path(operations) if operations is not None and url is None else None,
            store_url=url,
            model_options=model_options or ModelOptions(),
            max_revisions=max_revisions,
            most_parts=name_parts,
            counted=counted,
            attention=attention,
        )

    def bench(self, request: DescribeRequest) -> Workbench:
        """The parts that describe as `request` says; kept for the next head: opening them takes seconds."""
        if request not in self._benches:
            self._benches[request] = equip(self.maps, request)
        return self._benches[request]

    def _repr_html_(self) -> str:
        shape = self.maps.shape
        row = {
            "layers": shape.n_layers,
            "heads": shape.n_heads,
            "value heads": shape.n_value_heads,
            "vocabulary": shape.vocab_size,
            "source": self.maps.settings.source,
        }
        return as_html(self.name, [row])


@dataclass(frozen=True)
class Head:
    """One head of an opened model. Made by `Model.head`."""

    model: Model
    layer: int
    head: int

    @cached_property
    def mapping(self) -> MappingTable:
        """The head's most salient tokens and what it maps them to (the paper, section 3.2)."""
        with shown(None, "reading the residual stream", self.layer + 1) as step:
            self.model.maps.passed = lambda done, _: step(f"block {done}")
            found = list(self.model.maps.map_heads([self.layer], heads=[self.head]))  # as `describe` reads it
            (mapping,) = self.model.maps.with_same_tokens(self.model.maps.with_parts(found))
        return MappingTable(mapping)

    @property
    def parts(self) -> tuple[HeadPart, ...]:
        """Groups of words for which the head writes alike beside its constant part, largest share first."""
        return self.mapping.parts

    @property
    def attention(self) -> HeadAttention:
        """What the head attends to, from the weights: places, words read before, words that fit.

        Raises: UserMistake, UnsupportedModel, as `Model.attention`.
        """
        return self.model._attention_to(self.layer)[self.layer][self.head]

    @property
    def reads_from(self) -> tuple[Edge, ...]:
        """The earlier heads that feed its keys (K), queries (Q) and values (V) most, the strongest three of each.

        The first call reads all heads of the model. Raises: as `Model.composition`.
        """
        return self.model.composition().of_head(self.layer, self.head)

    def describe(
        self,
        *,
        describer: str = "auto",
        model_options: ModelOptions | None = None,
        max_revisions: int = MAX_REVISIONS,
        name_parts: int = NAMED_PARTS,
        counted: bool = True,
        attention: bool = True,
        operations: str | Path | None = None,
        record: bool = False,
        store: str | Path | None = None,
        progress: Callable[[str], None] = silent,
    ) -> Description:
        """What the head does, with evidence, tested on pairs that the describer never saw.

        Args:
            describer: "auto" (a language model where a key is set, else "lexical"), "lexical", "openai:MODEL",
                "local:PATH_OR_ID" or a LangChain provider's "PROVIDER:MODEL"; "choose:" before one of these models.
            model_options: limits, address and prices of a language model.
            max_revisions: how often a language model may think again after a trial.
            name_parts: how many parts of the head, the largest, a language model is asked to name one by one.
            counted: whether a counted claim that its test supports takes the place of a model's words that theirs
                does not.
            attention: whether to say what the head attends to as well; the first time, the heads of all layers up to
                its own are read.
            operations: folder or Chroma server of the known operations; None is the user's own.
            record: whether to put the head into the database of runs, `store` or the user's own.
            progress: called with what is being done.

        Raises: UnknownDescriber, BudgetSpent, ModelDown, StoreBusy (all of them `HeadscribeError`).
        """
        request = self.model.request(
            describer, model_options, max_revisions, name_parts, operations, counted=counted, attention=attention
        )
        described = describe_on(self.model.bench(request), self.layer, self.head, tell=progress)
        if record:
            database = open_database(None if store is None else str(store))
            try:
                record_head(database, described)
            finally:
                database.dispose()
        return Description(described.report)

    def relations(self, relations: Sequence[str | Relation] | None = None, **options: Any) -> pd.DataFrame:
        """Scores of operations on this head alone, strongest first; options as of `Model.relations`."""
        table = self.model.relations(relations, **options).to_pandas()
        own = table[(table["layer"] == self.layer) & (table["head"] == self.head)]
        return own.sort_values("score", ascending=False, ignore_index=True)

    def _repr_html_(self) -> str:
        return self.mapping._repr_html_()
