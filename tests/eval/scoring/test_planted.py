"""On the real checkpoint with planted operations: true descriptions score high, swapped ones do not."""

from __future__ import annotations

import pytest

from agent.checks.pair_scorer import PairScorer
from agent.results.descriptions import HeadDescription
from eval.judges.opening import open_judge
from eval.scoring.collection import Collection
from eval.scoring.job import ScoreJob
from eval.scoring.output.summary import summarise
from eval.scoring.questions.foreign_rows import rows_from_weights
from eval.scoring.questions.generation import Generator
from eval.scoring.questions.scorers import GENERATION
from eval.scoring.results import Subject
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.planting import plant

pytestmark = [pytest.mark.model, pytest.mark.slow]

PLANTED = (
    "country-to-capital",
    "noun-to-pronoun",
    "adjective-to-comparative",
    "verb-to-past-tense",
    "singular-to-plural",
    "word-to-antonym",
)


@pytest.fixture(scope="module")
def summaries():
    relations = load_relations(PLANTED)
    places = [(4 + 3 * i, (4 * i) % 9) for i in range(len(relations))]
    planted = plant(
        open_checkpoint("smollm2-135m", device="cpu"),
        [(relation, *place) for relation, place in zip(relations, places, strict=True)],
    )
    engine = MapsEngine(planted, EngineSettings(source="embedding"))
    scorer = PairScorer(engine)
    scorer.source = "embedding"  # what the heads were planted under: only there do they do what is said of them
    subjects = []
    for relation, (layer, head) in zip(relations, places, strict=True):
        said = relation.name.replace("-", " ")
        description = HeadDescription("ok", "planted", observed_pattern=relation.description, operation=said)
        subjects.append(Subject(engine.map_head(layer, head), description))
    catalogue = load_relations()
    job = ScoreJob(
        collection=Collection(tuple(subjects), "planted"),
        keys=places,
        scorers=("detection", "fuzzing", "intruder", GENERATION),
        judge=open_judge("lexical"),
        rows_of=rows_from_weights(engine),
        generator=Generator(scorer, catalogue),
    )
    return {one.scorer: one for one in summarise(job.run(), judge="lexical")}


@pytest.mark.parametrize("scorer", ["detection", GENERATION])
def test_true_descriptions_are_told_from_swapped_ones(summaries, scorer):
    found = summaries[scorer]
    assert found.n_heads == found.gap.n == len(PLANTED)
    assert found.score.value >= {"detection": 0.75, GENERATION: 0.99}[scorer]
    assert found.swapped.value <= found.score.value - 0.3
    assert found.verdict == "yes"


@pytest.mark.parametrize(("scorer", "n_heads"), [("fuzzing", len(PLANTED) - 1), ("intruder", len(PLANTED))])
def test_true_descriptions_score_above_chance_and_above_swapped_ones(summaries, scorer, n_heads):
    """A head of pronouns gives every source the same targets: nothing can be permuted, so it has no fuzzing score."""
    found = summaries[scorer]
    assert found.n_heads == n_heads
    assert found.score.value >= found.chance + 0.2
    assert found.swapped.value <= found.score.value - 0.1
