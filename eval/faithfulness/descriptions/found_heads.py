"""Of the heads that do a known operation when the model runs, how many are said to do it.

Known operations are relations of the catalogue and operations of form, of those that some head of the run is said to
do: their pairs are run on all heads anyway. A head does one where the name would be true of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from agent.checks.claims import ClaimedForm, ClaimedRelation, claimed_operation
from eval.faithfulness.descriptions.named_heads import NamedRun
from eval.statistics.intervals import wilson
from maps_engine.relations.catalogue import load_relations


def found_heads(run: NamedRun, true_of: Mapping[str, Tensor]) -> dict[str, Any]:
    """`{"operations", "pairs", "heads"}`: how many known operations, and shares with their intervals.

    true_of: (L, H) of bool for each operation. "pairs" are of all cases of a head that does an operation those where it
    is said to, under whatever name; "heads" of all heads that do one those that are said to do one of them.
    """
    relations = load_relations()
    known = {
        name: table
        for name, table in true_of.items()
        if isinstance(claimed_operation(name, relations), ClaimedRelation | ClaimedForm)
    }
    k = n = heads_said = heads = 0
    for place, said in run.said.items():
        does = [name for name, table in known.items() if table[place]]
        told = sum(name in said for name in does)
        k, n, heads_said, heads = k + told, n + len(does), heads_said + (told > 0), heads + bool(does)
    return {"operations": len(known), "pairs": asdict(wilson(k, n)), "heads": asdict(wilson(heads_said, heads))}
