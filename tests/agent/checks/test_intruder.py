"""The intruder test: fair trials, always the same, found where there is a function and not where there is none."""

from __future__ import annotations

import pytest

from agent.checks.intruder import CHANCE_LIKE, ROWS, EmbeddingJudge, intruder_test, make_trials, rows_of_others
from agent.words.fields import SemanticFields
from tests.support.agent.mappings import NOISE, LetterEmbedder, mapping, noise_rows, planted, row
from tests.support.agent.queue_models import QueueModel, agent_bench

WORDS = tuple(f" {a}{b}" for a in ("ba", "ko", "ti", "mu", "re", "lo") for b in ("nder", "stol", "vik", "pram", "gut"))


@pytest.fixture(scope="module")
def judge():
    return EmbeddingJudge(SemanticFields(LetterEmbedder()))


def share(judge, rows, strangers):
    one = mapping(rows)
    trials = make_trials(one, strangers, n=60)
    picked = judge.pick([trial.rows for trial in trials])
    return sum(a == trial.intruder for a, trial in zip(picked, trials, strict=True)) / len(trials)


def test_a_function_is_told_from_noise_and_noise_is_not(judge):
    copies = planted([(word, word.upper()) for word in WORDS], fit=1.0)
    strangers = [row(r.token, NOISE[i % 40 : i % 40 + 5], first_id=r.token_id) for i, r in enumerate(copies)]
    assert share(judge, copies, strangers) > 0.7
    noise = noise_rows(30, seed=1, sources=WORDS)
    others = [
        row(r.token, n.token and [t.token for t in n.targets]) for r, n in zip(noise, noise_rows(30, 2), strict=True)
    ]
    assert share(judge, noise, others) <= CHANCE_LIKE


def test_trials_are_fair_and_always_the_same():
    rows = noise_rows(30, sources=WORDS)
    strangers = [row(r.token, ["x"], first_id=r.token_id) for r in rows]
    trials = make_trials(mapping(rows), strangers, n=200)
    assert trials == make_trials(mapping(rows), strangers, n=200)
    assert trials != make_trials(mapping(rows, head=5), strangers, n=200)
    places = [trial.intruder for trial in trials]
    assert all(20 < places.count(i) < 60 for i in range(ROWS))
    for trial in trials:
        assert len(trial.rows) == ROWS
        assert [one.targets[0].token == "x" for one in trial.rows].index(True) == trial.intruder
        assert len({one.token_id for one in trial.rows}) == ROWS or len(set(rows)) < 30


def test_too_few_rows_make_no_test(judge):
    assert make_trials(mapping(noise_rows(9)), noise_rows(9), n=5) == []
    assert make_trials(mapping(noise_rows(30)), (), n=5) == []


def test_intruders_are_real_rows_of_other_value_heads(tmp_path):
    bench = agent_bench(tmp_path / "tiny", QueueModel([]), settings=_settings())
    head = bench.maps.map_head(1, 0)
    found = rows_of_others(head, bench.maps)
    assert [one.token_id for one in found] == [one.token_id for one in head.rows]
    others = [bench.maps.at("embedding").rows_of(1, h, [r.token_id for r in head.rows]) for h in (2, 3)]
    for place, one in enumerate(found):  # of heads 2 and 3, which read with the other value head
        assert one in [rows[place] for rows in others]
    test = intruder_test(head, bench.maps, EmbeddingJudge(bench.fields), n=20)
    assert (test.n, test.chance) == (20, 0.2)
    assert 0 <= test.share <= 1


def _settings():
    from maps_engine.results import EngineSettings

    return EngineSettings(source="embedding", top=20, targets=3)
