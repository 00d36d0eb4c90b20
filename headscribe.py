"""headscribe: what each attention head of a language model does, read from its weights.

    import headscribe as hs

    model = hs.open_model("smollm2-135m")      # alias, hub id, folder, GGUF file, or a transformers model in memory
    head = model.head(23, 4)
    head.mapping                               # salient tokens and what they are mapped to
    head.describe()                            # in words, with its test
    head.attention                             # what it attends to
    model.relations(["country-to-capital"])    # which heads do it
    model.label(store="heads.sqlite")          # all heads, resumable

Names only; the code is in `agent.face` (docs/design.md, "Public face").
"""

from agent.face.composition import CompositionTable
from agent.face.model import Head, Model, open_model
from agent.face.results import Description, LabelledHeads, MappingTable, RelationTable
from agent.llm.options import ModelOptions
from maps_engine.errors import HeadscribeError
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.format import Relation

__all__ = [
    "CompositionTable",
    "Description",
    "Head",
    "HeadscribeError",
    "LabelledHeads",
    "MappingTable",
    "Model",
    "ModelOptions",
    "Relation",
    "RelationTable",
    "load_relations",
    "open_model",
]
