"""Classes of words that a head maps to others: the plain computation, the rule, what is kept, what tests get."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path

import pytest
import torch

from agent.checks.claims import MAX_WORDS, ClaimedFields, claimed_operation
from agent.checks.controls import FEWEST, mixed_pairs
from agent.checks.offers import class_scores
from agent.checks.offers.class_scores import ClassScores
from agent.checks.offers.strongest import K, StrongestTargets
from agent.checks.pair_scorer import PairScorer
from agent.results.evidence import ClassScore
from agent.words.spelling import core
from maps_engine import fitting
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.engine import MapsEngine
from maps_engine.model import Checkpoint, Vocabulary
from maps_engine.ordinary_words import in_finding_half
from maps_engine.ov.pair_scores import PairSet
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.relations.catalogue import load_relations
from maps_engine.results import EngineSettings
from tests.support.eval.faithfulness_models import tiny_bench
from tests.support.tiny_models import tiny_model

LOW = {"SHARE": 0.05, "ABOVE": 0.02, "WITHOUT_BEST": 0.01, "STRENGTH": 0.2, "FEWEST_WORDS": 4}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return tiny_bench(tmp_path_factory.mktemp("tiny"), "llama").checkpoint


@pytest.fixture
def classes(opened: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> dict[str, frozenset[str]]:
    """Six classes of the tiny vocabulary's pieces, and a rule that lets heads of a random model pass."""
    monkeypatch.setattr(class_scores, "words_of", pieces_of)
    words = sorted(pieces_of(opened.vocabulary).values())
    made = {f"class {i}": frozenset(words[i::6]) for i in range(6)}
    monkeypatch.setattr(class_scores, "word_classes", lambda: made)
    monkeypatch.setattr(class_scores, "shared_classes", tuple)
    for name, value in LOW.items():
        monkeypatch.setattr(class_scores, name, value)
    return made


def pieces_of(vocabulary: Vocabulary) -> dict[int, str]:
    texts = {core(vocabulary.text(i)): i for i in reversed(range(len(vocabulary))) if vocabulary.kind(i) == "normal"}
    return {i: text for text, i in sorted(texts.items(), key=lambda one: one[1]) if text}


def scores_of(checkpoint: Checkpoint, folder: Path | None = None) -> ClassScores:
    engine = MapsEngine(checkpoint, EngineSettings("embedding", top=4))
    return ClassScores(StrongestTargets(PairScorer(engine, folder)))


def share(checkpoint, words, members, layer, head):
    """By hand, from rows of M: of `words` (token ids), how many have a member among their K strongest targets."""
    maps = MapsEngine(checkpoint, EngineSettings("embedding", targets=K, include_special=True))
    engine = maps.at(maps.truest)
    text = checkpoint.vocabulary.text
    hits = [
        any(core(t.token) in members and core(t.token) != core(text(row.token_id)) for t in row.targets)
        for row in engine.rows_of(layer, head, words)
    ]
    return sum(hits) / len(hits)


def test_shares_are_those_of_the_plain_rows(opened, classes):
    scores, shape, seen = scores_of(opened), opened.weights.shape, 0
    chosen = [i for i, word in pieces_of(opened.vocabulary).items() if in_finding_half(word)]
    for layer in range(shape.n_layers):
        for head in range(shape.n_heads):
            for one in scores.of_head(layer, head):
                own = [i for i in chosen if core(opened.vocabulary.text(i)) in classes[one.source]]
                assert one.n_words == len(own)
                assert one.score == pytest.approx(share(opened, own, classes[one.target], layer, head))
                assert one.score >= one.outside + LOW["ABOVE"]
                assert set(one.words) <= classes[one.target]
                seen += 1
    assert seen > 5


def test_a_class_that_two_members_carry_is_not_offered(opened, classes, monkeypatch):
    scores = scores_of(opened)
    before = [scores.of_head(0, head) for head in range(opened.weights.shape.n_heads)]
    monkeypatch.setattr(class_scores, "DROPPED", 10**6)
    assert any(before)
    assert not any(scores.of_head(0, head) for head in range(opened.weights.shape.n_heads))


def test_what_is_written_whatever_is_read_is_that_of_the_plain_rows(opened, classes, monkeypatch):
    monkeypatch.setattr(class_scores, "SHARED", 0.1)
    scores, shape, seen = scores_of(opened), opened.weights.shape, 0
    engine = MapsEngine(opened, EngineSettings("embedding", targets=K, include_special=True))
    chosen = [i for i, word in pieces_of(opened.vocabulary).items() if in_finding_half(word)]
    for layer in range(shape.n_layers):
        for head in range(shape.n_heads):
            one = scores.shared_by(layer, head)
            if one is None:
                continue
            rows = [[core(t.token) for t in r.targets] for r in engine.at(engine.truest).rows_of(layer, head, chosen)]
            written = Counter(word for row in rows for word in row if word in classes[one.target])
            left = sum(written.values()) - sum(n for _, n in written.most_common(class_scores.DROPPED))
            assert one.share == pytest.approx(left / (K * len(chosen)))
            assert one.share >= one.expected == 0.1
            assert one.first == pytest.approx(sum(row[0] in classes[one.target] for row in rows) / len(rows))
            assert (one.n_words, one.n_targets) == (len(chosen), K * len(chosen))
            assert {core(word) for word in one.words} <= classes[one.target]
            seen += 1
    assert seen > 3


def test_of_classes_that_pass_the_narrowest_with_half_the_share_is_offered(opened, classes, monkeypatch):
    everything = frozenset().union(*classes.values())
    monkeypatch.setattr(class_scores, "word_classes", lambda: {**classes, "everything": everything})
    monkeypatch.setattr(class_scores, "SHARED", 0.01)
    narrow, wide = scores_of(opened), scores_of(opened)
    monkeypatch.setattr(class_scores, "NARROWER", 0.01)
    assert narrow.shared_by(0, 0).target != "everything"
    monkeypatch.setattr(class_scores, "NARROWER", 0.99)
    assert wide.shared_by(0, 0).target == "everything"


@pytest.mark.model
def test_what_is_written_whatever_is_read_is_tested_by_the_strongest_target_of_other_words():
    vocabulary = open_checkpoint("smollm2-135m").vocabulary
    for label in ("words to pronouns", "words to prepositions"):
        whole, scored = (
            claimed_operation(label, (), scored=one).pairs(vocabulary, excluded=frozenset(), n=60)
            for one in (False, True)
        )
        assert (whole.k, scored.k) == (10, 1)
        assert len(scored.sources) == MAX_WORDS
        assert not any(in_finding_half(vocabulary.text(i)) for i in scored.sources)
        assert not scored.others


def test_words_are_dealt_in_halves_by_their_spelling_alone():
    words = sorted({word for one in load_relations() for word, _ in one.pairs})
    chosen = [word for word in words if in_finding_half(word)]
    assert 0.45 < len(chosen) / len(words) < 0.55
    assert all(in_finding_half(f" {word.upper()}") == in_finding_half(word) for word in words if word.isascii())
    assert in_finding_half("dogs") == (zlib.crc32(b"dogs") % 2 == 0)


@pytest.mark.model
def test_what_chose_a_claim_of_classes_does_not_test_it():
    checkpoint = open_checkpoint("smollm2-135m")
    vocabulary, label = checkpoint.vocabulary, "plural nouns to prepositions"
    whole, scored = (claimed_operation(label, (), scored=one) for one in (False, True))
    assert isinstance(whole, ClaimedFields)
    assert isinstance(scored, ClaimedFields)
    pairs = scored.pairs(vocabulary, excluded=frozenset(), n=60)
    assert len(pairs.sources) == len(pairs.others) == MAX_WORDS
    assert not any(in_finding_half(vocabulary.text(i)) for i in (*pairs.sources, *pairs.others))
    assert any(in_finding_half(vocabulary.text(i)) for i in whole.pairs(vocabulary, excluded=frozenset(), n=60).sources)
    assert {core(vocabulary.text(i)) for i in pairs.sources} <= whole.sources
    assert not {core(vocabulary.text(i)) for i in pairs.others} & whole.sources


@pytest.mark.model
def test_a_head_that_writes_verbs_behind_plural_nouns_is_offered_so():
    scores = ClassScores(StrongestTargets(PairScorer(MapsEngine.open("smollm2-135m"))))
    offered = {one.label: one for one in scores.of_head(27, 7)}
    one = offered["plural nouns to modal and auxiliary verbs"]
    assert one.score > 0.6
    assert one.outside < 0.3
    assert {"are", "were"} <= set(one.words)


def test_the_control_of_a_class_is_the_same_targets_of_other_words():
    pairs = PairSet((1, 2, 3), ((10, 11), (10, 11), (11,)), 10, others=(4, 11))
    assert mixed_pairs(pairs) == PairSet((4, 11), ((10, 11), (10,)), 10)
    assert FEWEST <= MAX_WORDS


@pytest.mark.parametrize("family", ["gpt2", "llama-one-value-head", "gpt-neox", "gemma2"])
def test_strongest_targets_are_those_of_the_plain_rows(family, tmp_path):
    checkpoint = open_checkpoint(str(tiny_model(family, tmp_path)[0]), device="cpu")
    engine = MapsEngine(checkpoint, EngineSettings("embedding", targets=5, include_special=True)).at("embedding")
    ids = [3, 40, 77]
    found = engine.strongest(ids, k=5)
    assert found[1:2].equal(engine.strongest(ids, k=5, layers=[1]))
    for layer in range(checkpoint.weights.shape.n_layers):
        for head in range(checkpoint.weights.shape.n_heads):
            rows = engine.rows_of(layer, head, ids)
            assert found[layer, head].tolist() == [[t.token_id for t in row.targets] for row in rows]


@pytest.mark.parametrize("family", ["gpt2", "llama-one-value-head"])
def test_targets_too_close_for_float32_are_in_the_order_of_float64_whatever_is_read_beside(family, tmp_path):
    checkpoint = open_checkpoint(str(tiny_model(family, tmp_path)[0]), device="cpu")
    engine = MapsEngine(checkpoint, EngineSettings("embedding")).at("embedding")
    u = engine.unembedding.hold()
    u[1::2] = u[::2][: len(u[1::2])]
    u[1::2, 0] = u[1::2, 0].nextafter(u.new_tensor(9.0))
    ids = torch.arange(3, 90, 4)
    for layer in range(checkpoint.weights.shape.n_layers):
        found = engine.strongest(ids.tolist(), k=5, layers=[layer])[0]
        circuit = engine.circuit(layer)
        heads, x = circuit.heads.double(), circuit.table.rows(layer, ids).double()
        for head in range(len(found)):
            m = heads.read(x, head) @ heads.output[head] @ u.double().T
            assert found[head].equal(m.argsort(dim=-1, descending=True, stable=True)[:, :5].int())
        alone = torch.cat([engine.strongest([i], k=5, layers=[layer])[0] for i in ids.tolist()], dim=1)
        assert found.equal(alone)


def test_targets_are_kept_and_a_spoilt_file_is_read_anew(opened, classes, tmp_path, monkeypatch):
    first = scores_of(opened, tmp_path)
    expected: list[tuple[ClassScore, ...]] = [first.of_head(1, head) for head in range(4)]
    (kept,) = tmp_path.rglob("*.safetensors")
    whole = kept.read_bytes()
    again = scores_of(opened, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(SourceEngine, "strongest", None)  # whoever reads now fails
        assert [again.of_head(1, head) for head in range(4)] == expected
    for spoilt in (whole[: len(whole) // 2], b"", b"{}"):
        kept.write_bytes(spoilt)
        assert [scores_of(opened, tmp_path).of_head(1, head) for head in range(4)] == expected
        assert kept.read_bytes() == whole


def test_nothing_is_offered_where_it_would_be_dear_or_no_class_has_words(opened, classes, monkeypatch):
    monkeypatch.setattr(class_scores, "word_classes", lambda: {"class": frozenset({"no such word"})})
    assert scores_of(opened).of_head(0, 0) == ()
    monkeypatch.setattr(class_scores, "word_classes", lambda: classes)
    monkeypatch.setattr(fitting, "ON_PROCESSOR", 1.0)
    dear = scores_of(opened)
    monkeypatch.setattr(SourceEngine, "strongest", None)
    assert dear.of_head(0, 0) == ()


def test_classes_near_what_is_needed_lose_their_best_words_and_others_count_nothing(opened, classes, monkeypatch):
    scores = scores_of(opened)
    g = torch.Generator().manual_seed(1)
    size = opened.weights.shape.vocab_size
    for _ in range(20):
        table = torch.rand(size, 7, generator=g) < torch.rand(7, generator=g)
        rows = torch.randint(0, size, (9, K), generator=g)
        needed = 0.6 * torch.rand(7, generator=g, dtype=torch.float64)
        found = scores._without_best(rows, table, needed)
        for place in range(7):
            written = Counter(int(scores._spelled[i]) for i in rows.flatten() if table[i, place])
            share = sum(written.values()) / rows.numel()
            left = (sum(written.values()) - sum(n for _, n in written.most_common(2))) / rows.numel()
            assert found[place] == pytest.approx(left if share >= needed[place] else 0.0)
