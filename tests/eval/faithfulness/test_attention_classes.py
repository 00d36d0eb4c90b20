"""From class to class: texts made for a pair of classes, what heads of the running model do there, and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from eval.faithfulness.attention import classes, experiment, readings
from eval.faithfulness.attention.class_summary import RELATIONS
from eval.faithfulness.attention.classes import (
    DISTANCES,
    LATE,
    LENGTH,
    TEXTS,
    ClassMeasure,
    ClassTexts,
    MeasuredClasses,
    Pair,
    pairs_of,
)
from eval.faithfulness.attention.experiment import attention
from eval.faithfulness.attention.readings import Claim
from eval.faithfulness.attention.texts import LENGTH as OF_A_PIECE
from eval.faithfulness.report.attention import attention_table, class_points, read_attention
from eval.faithfulness.report.figures import class_scatter
from maps_engine.ordinary_words import in_finding_half
from maps_engine.qk import class_fits
from tests.support.eval.made_texts import some_texts
from tests.support.eval.named_runs import wordy_bench


@dataclass(frozen=True)
class ByLetter:
    """Words that begin with one of some letters."""

    label: str
    letters: str

    @property
    def holds(self) -> Callable[[str], bool]:
        return lambda text: text.strip()[:1] in set(self.letters)


EARLY, LATER = ByLetter("early words", "bdfgk"), ByLetter("later words", "lmnprst")


@pytest.fixture(autouse=True)
def two_classes(monkeypatch) -> None:
    for module in (classes, readings):
        monkeypatch.setattr(module, "all_classes", lambda: (EARLY, LATER))


@pytest.fixture
def texts(tmp_path) -> ClassTexts:
    return ClassTexts(wordy_bench(tmp_path).checkpoint.vocabulary)


def test_words_of_classes_are_put_into_their_places_alone(tmp_path, texts: ClassTexts) -> None:
    vocabulary = wordy_bench(tmp_path).checkpoint.vocabulary
    assert texts.ids.shape == (TEXTS, LENGTH)
    assert (texts.ids[:, 0] == vocabulary.start[0]).all()
    assert set((texts.queries - texts.keys).tolist()) == set(DISTANCES)
    assert int(texts.queries.min()) >= LENGTH - LATE
    each, both = torch.arange(TEXTS), texts.having("early words", "later words")
    for place, of in ((texts.queries, EARLY), (texts.keys, LATER)):
        words = [vocabulary.text(i) for i in both[each, place].tolist()]
        assert all(of.holds(word) and not in_finding_half(word) for word in words)
        assert len(set(words)) > 3
        both[each, place] = texts.ids[each, place]
    assert torch.equal(both, texts.ids)
    assert torch.equal(texts.having(None, None), texts.ids)


def test_the_same_words_of_a_class_stand_in_all_its_texts(tmp_path, texts: ClassTexts) -> None:
    """So that what is taken off is of the same texts; and they are the same every time."""
    each, pair = torch.arange(TEXTS), ("early words", "later words")
    both, first, second = texts.having(*pair), texts.having(pair[0], None), texts.having(None, pair[1])
    assert torch.equal(both[each, texts.queries], first[each, texts.queries])
    assert torch.equal(both[each, texts.keys], second[each, texts.keys])
    again = ClassTexts(wordy_bench(tmp_path).checkpoint.vocabulary)
    assert torch.equal(again.having(*pair), both)
    assert again.digest(pair) == texts.digest(pair) != texts.digest(("later words", "early words"))


def test_texts_that_say_nothing_of_a_pair_are_left_out(tmp_path, texts: ClassTexts) -> None:
    vocabulary, each = wordy_bench(tmp_path).checkpoint.vocabulary, torch.arange(TEXTS)

    def of(one: ByLetter, ids: torch.Tensor) -> list[bool]:
        return [one.holds(vocabulary.text(i)) for i in ids.tolist()]

    asking, asked = (texts.ids[each, place] for place in (texts.queries, texts.keys))
    assert texts.usable((None, "later words")).tolist() == [not one for one in of(LATER, asked)]
    wanted = [not (one or other) for one, other in zip(of(EARLY, asking), of(LATER, asked), strict=True)]
    assert texts.usable(("early words", "later words")).tolist() == wanted
    same = texts.having("later words", "later words")
    found = texts.usable(("later words", "later words"))
    assert not (found & (same[each, texts.queries] == same[each, texts.keys])).any()


@pytest.mark.parametrize("batch", [5, TEXTS])
@pytest.mark.parametrize("reads", ["early words", None])
def test_nats_are_those_of_the_plain_computation(tmp_path, texts: ClassTexts, reads: str | None, batch: int) -> None:
    bench, pair, layer, head = wordy_bench(tmp_path), (reads, "later words"), 1, 2
    found = MeasuredClasses(bench.model, texts, batch).measure(pair)

    def log(ids: torch.Tensor, text: int) -> float:
        seen = bench.model.model(input_ids=ids[text, None], output_attentions=True).attentions[layer]
        return float(seen[0, head, texts.queries[text], texts.keys[text]].log())

    nats = []
    for text in texts.usable(pair).nonzero().flatten().tolist():
        more = log(texts.having(None, pair[1]), text) - log(texts.ids, text)
        if reads is not None:
            more = log(texts.having(*pair), text) - log(texts.having(reads, None), text) - more
        nats.append(more)
    assert found.n == len(nats)
    interval = stats.ttest_1samp(nats, 0.0).confidence_interval(0.95)
    assert float(found.mean[layer, head]) == pytest.approx(np.mean(nats), abs=1e-4)
    assert float(found.low[layer, head]) == pytest.approx(interval.low, abs=1e-4)
    assert float(found.high[layer, head]) == pytest.approx(interval.high, abs=1e-4)
    again = ClassMeasure.from_json(found.to_json())
    assert torch.allclose(again.mean, found.mean, atol=1e-6)


def test_pairs_come_once() -> None:
    claims = [Claim(0, head, reads, "b", 1.0) for head, reads in enumerate(("a", None, "a"))]
    assert pairs_of(claims) == (("a", "b"), (None, "b"))


@pytest.fixture
def claims(monkeypatch) -> None:
    """Bounds are taken off, so that a model of chance has claims."""
    monkeypatch.setattr(class_fits, "STRENGTH", 0.0)
    monkeypatch.setattr(class_fits, "LOGIT", 0.0)
    monkeypatch.setattr(experiment, "FEWEST", 3)


@pytest.mark.usefixtures("claims")
def test_claims_stand_beside_the_running_model(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    result = attention(bench, some_texts(bench.checkpoint)[:1], max_tokens=2 * OF_A_PIECE).to_json()
    rows, (whole, *groups) = result["classes"]["by_claim"], result["classes"]["groups"]
    assert whole["claims"] == len(rows) == sum(one["claims"] for one in groups) > 3
    assert [one["name"] for one in (whole, *groups)] == ["all", *RELATIONS]
    assert whole["held"]["value"] == pytest.approx(np.mean([row["low"] > 0 for row in rows]), abs=1e-3)
    assert whole["real"] == pytest.approx(np.mean([row["mean"] for row in rows]), abs=1e-3)
    others = [other for row in rows for other in row["others"]]
    assert whole["others"] == pytest.approx(np.mean([one["mean"] for one in others]), abs=1e-3)
    share = np.mean([one["low"] > 0 for one in others])
    assert whole["others_held"]["value"] == pytest.approx(share, abs=1e-3)
    said = {(one["layer"], one["head"], one["from"], one["to"]) for one in rows}
    measured = MeasuredClasses(bench.model, ClassTexts(bench.checkpoint.vocabulary), 16)
    for row in rows:
        found = measured.measure((row["from"], row["to"]))
        assert row["mean"] == pytest.approx(float(found.mean[row["layer"], row["head"]]), abs=1e-4)
        assert row["low"] < row["mean"] < row["high"]
        free = [head for head in range(4) if (row["layer"], head, row["from"], row["to"]) not in said]
        means = [float(found.mean[row["layer"], head]) for head in free]
        assert [one["mean"] for one in row["others"]] == pytest.approx(means, abs=1e-4)
    table, sentences = attention_table(result), " ".join(read_attention(result))
    assert f"| **from class to class** | {len(rows)} | " in table
    assert f"Heads are said {len(rows)} times to attend to a class of words" in sentences
    assert class_scatter(*class_points(result)).rstrip().endswith(b"</svg>")


@pytest.mark.usefixtures("claims")
def test_pairs_that_were_measured_are_read_from_the_folder(tmp_path, monkeypatch) -> None:
    asked = wordy_bench(tmp_path)
    text = some_texts(asked.checkpoint)[:1]
    first = attention(asked, text).to_json()["classes"]
    real = MeasuredClasses.measure
    again: list[Pair] = []

    def counted(self: MeasuredClasses, pair: Pair) -> ClassMeasure:
        again.append(pair)
        return real(self, pair)

    monkeypatch.setattr(MeasuredClasses, "measure", counted)
    assert attention(wordy_bench(tmp_path), text).to_json()["classes"] == first
    assert again == []
    lost = next(iter(sorted((asked.folder.path / "attention").glob("classes-*.json"))))
    lost.unlink()
    assert attention(wordy_bench(tmp_path), text).to_json()["classes"] == first
    assert len(again) == 1
    monkeypatch.setattr(experiment, "FEWEST", TEXTS + 1)
    assert attention(wordy_bench(tmp_path), text).to_json()["classes"]["by_claim"] == []


def test_results_from_before_this_was_measured_are_shown_without(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    result = attention(bench, some_texts(bench.checkpoint)[:1]).to_json()
    del result["classes"]
    for row in result["keys"]:
        del row["null_queries"]
    assert class_points(result) == ([], [])
    assert "(–)" in attention_table(result)
    assert "class" not in " ".join(read_attention(result))
