"""Parts of a head of the real model: groups of words by number and sex, each with pronouns of its own."""

from __future__ import annotations

import pytest

from maps_engine.engine import MapsEngine

pytestmark = pytest.mark.model


def test_a_pronoun_head_has_a_part_for_each_kind_of_noun():
    maps = MapsEngine.open("smollm2-135m", device="cpu")
    (mapping,) = maps.with_parts([maps.map_head(26, 2)])
    strongest = {part.targets[0].token: part for part in reversed(mapping.parts)}
    assert {" their", " its", " his", " her"} <= set(strongest)
    words = {target: {row.token for row in part.rows} for target, part in strongest.items()}
    assert {" sharks", " corals"} & words[" their"]
    assert {" Daniel", " Bernard", " Pedro"} & words[" his"]
    assert {" Charlotte", " Dorothy", " Margaret"} & words[" her"]
    for part in (strongest[one] for one in (" their", " his", " her")):
        assert part.test.hits == part.test.n
        assert part.test.p < 1e-4
    assert maps.with_parts([maps.map_head(26, 2)])[0].parts == mapping.parts
