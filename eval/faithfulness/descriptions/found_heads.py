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
    """`{"operations", "cases", "heads", "missed"}`: known operations, shares that are said, and cases that are not.

    true_of: (L, H) of bool for each operation. A case is a head with an operation that it does; it is said where the
    operation is among the head's, or among their other names. "heads" are those that do one, said where one of those
    that they do is.
    """
    relations = load_relations()
    known = {
        name: table
        for name, table in true_of.items()
        if isinstance(claimed_operation(name, relations), ClaimedRelation | ClaimedForm)
    }
    cases = [(*place, name) for place in run.said for name, table in known.items() if table[place]]
    missed = [(layer, head, name) for layer, head, name in cases if name not in run.said[layer, head]]
    heads, found = {case[:2] for case in cases}, {case[:2] for case in set(cases) - set(missed)}
    return {
        "operations": len(known),
        "cases": asdict(wilson(len(cases) - len(missed), len(cases))),
        "heads": asdict(wilson(len(found), len(heads))),
        "missed": [{"layer": layer, "head": head, "operation": name} for layer, head, name in missed],
    }
