"""Operations planted in single heads of the real checkpoint are found in the right head and named."""

from __future__ import annotations

import pytest

from agent.results.evidence import Evidence
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import load_relations
from maps_engine.relations.encoding import encode_relation
from maps_engine.results import EngineSettings
from tests.support.agent.bulk_runs import lexical_bench
from tests.support.planting import plant

pytestmark = [pytest.mark.model, pytest.mark.slow]

PLANTED = (
    "name-copying",
    "country-to-capital",
    "country-to-nationality",
    "noun-to-pronoun",
    "adjective-to-comparative",
    "adjective-to-superlative",
    "verb-to-past-tense",
    "verb-to-gerund",
    "verb-to-third-person",
    "singular-to-plural",
    "plural-to-singular",
    "word-to-antonym",
    "word-to-first-letter",
    "word-to-last-letter",
    "lower-to-capital",
    "country-to-language",
)
SAME_THING = {  # a copying head is named by what it copies with
    "name-copying": {"copying", "copying with spacing variants"},
    "lower-to-capital": {"copying with case variants"},
}
AT_LEAST_NAMED = 14


def heads(n):
    """One head in every other layer, each time another position."""
    return [(2 + i, (4 * i) % 9) for i in range(n)]


def planted_under(source):
    relations = load_relations(PLANTED)
    checkpoint = open_checkpoint("smollm2-135m", device="cpu")
    places = dict(zip([r.name for r in relations], heads(len(relations)), strict=True))
    return plant(checkpoint, [(r, *places[r.name]) for r in relations], source=source), relations, places


@pytest.fixture(scope="module")
def planted():
    return planted_under("embedding")


@pytest.mark.parametrize("source", ["embedding", "residual"])
def test_planted_operations_score_in_their_own_head(source):
    checkpoint, relations, places = planted_under(source)
    encoded = [encode_relation(r, checkpoint.vocabulary) for r in relations]
    sets = [PairSet(e.source_ids[:60], e.target_ids[:60], r.k) for r, e in zip(relations, encoded, strict=True)]
    engine = MapsEngine(checkpoint, EngineSettings(source))
    results = engine.score_pairs(sets, source=source, layers=sorted({at for at, _ in places.values()}))
    layers = sorted({at for at, _ in places.values()})
    for relation, found in zip(relations, results, strict=True):
        layer, head = places[relation.name]
        best = divmod(int(found.score.argmax()), found.score.shape[1])
        assert found.score[layers.index(layer), head] >= 0.9, relation.name
        assert (layers[best[0]], best[1]) == (layer, head) or found.score.max() == 1, relation.name


def test_planted_operations_are_named(planted, record_property):
    checkpoint, relations, places = planted
    engine = MapsEngine(checkpoint, EngineSettings(source="embedding"))
    describer = lexical_bench(engine).describer
    named = {r.name: describer.describe(Evidence.of(engine.map_head(*places[r.name]))) for r in relations}
    right = [n for n, found in named.items() if found.operation in {n.replace("-", " "), *SAME_THING.get(n, ())}]
    wrong = {name: (d.status, d.operation) for name, d in named.items() if name not in right}
    record_property("named", f"{len(right)} of {len(named)}; otherwise: {wrong}")
    assert len(right) >= AT_LEAST_NAMED, wrong
