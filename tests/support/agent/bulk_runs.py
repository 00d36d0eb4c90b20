"""Bulk runs without any download: a tiny checkpoint, an embedder of letters, a describer that gives replies."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

from agent.describers.lexical import LexicalDescriber
from agent.describers.protocol import Proposed
from agent.pipeline.request import LabelRequest
from agent.pipeline.workbench import Workbench, assemble
from agent.results.descriptions import Claim, HeadDescription
from agent.results.evidence import Evidence
from agent.words.embedder import load_embedder
from agent.words.fields import SemanticFields
from maps_engine.engine import MapsEngine
from maps_engine.folders import cache_folder
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.agent.mappings import LetterEmbedder
from tests.support.tiny_models import tiny_model

OPERATIONS = ("copying", "country to capital", "word to first letter", "free text")


class QueueDescriber:
    """Answers by rule as a language model would: named, unclear or failed, and pairs for free text."""

    def __init__(self, *, failing: bool = False, after: int = 10**9) -> None:
        self.name, self.settings = "openai:rule", {"model": "rule"}
        self.asked: list[tuple[int, int]] = []
        self._failing, self._after, self._lock = failing, after, threading.Lock()

    def describe(self, evidence: Evidence) -> HeadDescription:
        with self._lock:
            self.asked.append((evidence.layer, evidence.head))
            n = len(self.asked)
        kind = (evidence.layer * 5 + evidence.head) % 7
        if self._failing or n > self._after or kind == 6:
            return HeadDescription("failed", self.name, reason="no answer within 60 s", raw_reply="a\x00b")
        if kind == 5:
            return HeadDescription("unclear", self.name, "Unclear.", "Unclear.", "unclear", reason="nothing to see")
        said = OPERATIONS[kind % len(OPERATIONS)]
        claims = (Claim("pairs", said, 3, 4, 0.5, 2.0, ("a → b",)),)
        return HeadDescription("ok", self.name, "Words.", f"Does {said}.", said, 0.5, "counted", claims, "", '{"a":1}')

    def propose_pairs(self, description, *, n, excluded):
        letters = [f" {letter}" for letter in "abcdefghijklmnopq"]
        return Proposed(tuple(pairwise(letters)), exact=True)


def tiny_request(folder: Path, **changes) -> LabelRequest:
    """A request for the two layers x four heads of a tiny model."""
    if not (folder / "config.json").exists():
        tiny_model("llama", folder)
    values = {
        "model": str(folder),
        "settings": EngineSettings(source="embedding", top=8, targets=3),
        "describer": "lexical",
        "device": "cpu",
        "store_folder": folder.parent / "chroma",
    }
    return LabelRequest(**(values | changes))


def letter_bench(request: LabelRequest, describer: object | None = None) -> Workbench:
    """A workbench without MiniLM: words are embedded by their letters. Without `describer`, the lexical one."""
    maps = MapsEngine.open(request.model, settings=request.settings, device=request.device)
    return lettered(maps, describer, request.store_folder)


def lettered(maps: MapsEngine, describer: object | None = None, folder: Path | None = None) -> Workbench:
    """The same for a model that is open already."""
    fields = SemanticFields(LetterEmbedder())
    chosen = describer or LexicalDescriber(fields, load_relations())
    return assemble(maps, describer=chosen, fields=fields, folder=folder)


def lexical_bench(maps: MapsEngine, *, folder: Path | None = None) -> Workbench:
    """A workbench of an opened model with the real MiniLM and the lexical describer."""
    fields = SemanticFields(load_embedder(), cache_folder=cache_folder())
    lexical = LexicalDescriber(fields, load_relations())
    return assemble(maps, describer=lexical, fields=fields, folder=folder, attention=False)
