"""`--source auto`: heads are read through the representation under which an operation was planted in them."""

from __future__ import annotations

import pytest

from maps_engine.engine import MapsEngine
from maps_engine.errors import UnsupportedModel
from maps_engine.folders import cache_folder
from maps_engine.model import ModelShape
from maps_engine.relations.catalogue import load_relations
from maps_engine.source_choice import PAIRS_PER_PROBE, SAMPLED_LAYERS, probes_for, sampled_layers
from tests.support.memory_model import memory_checkpoint, memory_weights
from tests.support.planting import plant

SHAPE = ModelShape(n_layers=4, n_heads=4, n_value_heads=4, d_model=64, d_head=32, vocab_size=900)


def words_of(name):
    """PAIRS_PER_PROBE pairs of a relation in which no word occurs twice, as a flat list of words."""
    words: list[str] = []
    for source, targets in load_relations([name])[0].pairs:
        if source not in words and targets[0] not in words and source != targets[0]:
            words += [source, targets[0]]
        if len(words) == 2 * PAIRS_PER_PROBE:
            break
    return words


def checkpoint():
    return memory_checkpoint(memory_weights(SHAPE), words=tuple(words_of("verb-to-past-tense")))


def planted(places, source):
    relation = load_relations(["verb-to-past-tense"])[0]
    operations = [(relation, layer, head) for layer, head in places]
    return plant(checkpoint(), operations, source=source, max_pairs=PAIRS_PER_PROBE)


@pytest.mark.parametrize("source", ["embedding", "first-mlp", "first-block"])
def test_a_head_is_read_through_the_source_it_was_planted_under(source):
    engine = MapsEngine(planted([(2, 1)], source))
    choice = engine.source_of(2, 1)
    assert (choice.source, choice.decided_by) == (source, "head")
    assert choice.evidence[0].operation == "verb-to-past-tense"
    assert choice.evidence[0].score >= 0.9
    assert {e.source for e in choice.evidence} == {"embedding", "first-mlp", "first-block"}
    mapping = engine.map_head(2, 1)
    assert mapping.source == source
    assert mapping.source_choice == choice


def test_heads_of_one_layer_may_differ_and_all_agree_with_one_by_one():
    first = planted([(2, 1)], "embedding")
    both = plant(
        first, [(load_relations(["verb-to-past-tense"])[0], 2, 3)], source="first-mlp", max_pairs=PAIRS_PER_PROBE
    )
    engine = MapsEngine(both)
    chosen = [m.source_choice for m in engine.map_heads(layers=[2])]
    assert (chosen[1].source, chosen[3].source) == ("embedding", "first-mlp")
    assert chosen == [MapsEngine(both).source_of(2, head) for head in range(4)]


def test_a_head_without_evidence_follows_the_model():
    engine = MapsEngine(planted([(1, 0), (2, 1), (3, 2)], "embedding"))
    choice = engine.source_of(1, 3)
    assert (choice.source, choice.decided_by) == ("embedding", "model")
    assert choice.evidence[0].score == pytest.approx(3 / 12)


def test_the_preferred_source_is_taken_while_it_reads_a_fair_share():
    first = planted([(1, 0), (2, 1)], "embedding")
    relation = load_relations(["verb-to-past-tense"])[0]
    both = plant(first, [(relation, 3, 2)], source="first-mlp", max_pairs=PAIRS_PER_PROBE)
    choice = MapsEngine(both).source_of(1, 3)
    assert (choice.source, choice.decided_by) == ("first-mlp", "model")
    assert choice.evidence[1].source == "embedding"


def test_a_model_that_reads_through_nothing_says_so():
    choice = MapsEngine(checkpoint()).source_of(1, 1)
    assert (choice.source, choice.decided_by) == ("embedding", "default")


def test_the_models_choice_is_remembered(monkeypatch):
    opened = planted([(1, 0), (2, 1)], "embedding")
    before = MapsEngine(opened).chooser.for_model()
    monkeypatch.setattr("maps_engine.source_choice.SourceChooser._measure_model", lambda self: pytest.fail("measured"))
    assert MapsEngine(opened).chooser.for_model() == before


def test_a_remembered_choice_that_cannot_be_is_measured_again():
    opened = planted([(1, 0), (2, 1)], "embedding")
    chooser = MapsEngine(opened).chooser
    before = chooser.for_model()
    (path,) = (cache_folder() / "auto_source").iterdir()
    for spoilt in ('{"source": "bogus", "evidence": []}', '{"source": "emb', "[]"):
        path.write_text(spoilt)
        assert MapsEngine(opened).chooser.for_model() == before


def test_a_family_without_a_first_mlp_is_read_through_the_rest(monkeypatch):
    def refuse(self, x):
        raise UnsupportedModel("the first block is a mixture of experts")

    monkeypatch.setattr("tests.support.memory_model.MemoryWeights.first_mlp", refuse)
    opened = checkpoint()
    assert MapsEngine(opened).chooser.candidates == ("embedding",)


def test_a_user_s_source_is_not_second_guessed():
    from maps_engine.results import EngineSettings

    engine = MapsEngine(planted([(2, 1)], "first-mlp"), EngineSettings(source="embedding"))
    assert engine.source_of(2, 1).decided_by == "user"
    assert engine.map_head(2, 1).source == "embedding"


def test_probes_need_enough_one_token_pairs():
    probes = probes_for(checkpoint().vocabulary)
    assert probes.names == ("verb-to-past-tense",)
    assert len(probes.pair_sets[0].sources) == PAIRS_PER_PROBE
    assert probes_for(memory_checkpoint().vocabulary).names == ()


@pytest.mark.parametrize("n", [1, 2, 17, 80])
def test_sampled_layers_are_spread_and_leave_out_layer_0(n):
    layers = sampled_layers(n)
    assert len(layers) == min(max(1, n - 1), SAMPLED_LAYERS)
    assert layers == sorted(set(layers))
    assert n == 1 or (layers[0], layers[-1]) == (1, n - 1)
