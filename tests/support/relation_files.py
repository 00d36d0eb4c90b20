"""Operations written in the project's own file format, as the files of the catalogue are."""

from __future__ import annotations

import json
from dataclasses import fields

from maps_engine.relations.format import Relation

NOT_IN_FILES = {"pairs", "own", "joined"}  # the pairs come last; the others say where a relation was read from


def format_relation(relation: Relation) -> str:
    """The relation in our own format: one field and one pair per line, so that changes read well."""
    lines = []
    for field in fields(Relation):
        value = getattr(relation, field.name)
        if field.name not in NOT_IN_FILES and value != field.default:
            lines.append(f"  {json.dumps(field.name)}: {json.dumps(value, ensure_ascii=False)},")
    pairs = [
        json.dumps([source, targets[0] if len(targets) == 1 else list(targets)], ensure_ascii=False)
        for source, targets in relation.pairs
    ]
    body = ",\n".join(f"    {pair}" for pair in pairs)
    return "{\n" + "\n".join(lines) + f'\n  "pairs": [\n{body}\n  ]\n}}\n'
