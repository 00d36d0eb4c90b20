"""From class to class: texts made for a pair of classes, what heads of the running model do there, and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from eval.faithfulness.attention import classes, readings
from eval.faithfulness.attention.classes import (
    DISTANCES,
    FLOOR,
    LATE,
    LENGTH,
    TEXTS,
    ClassMeasure,
    ClassTexts,
    attention_logs,
    class_measure,
    class_texts,
    pairs_of,
)
from eval.faithfulness.attention.experiment import attention
from eval.faithfulness.attention.readings import Claim
from eval.faithfulness.attention.texts import LENGTH as OF_A_PIECE
from eval.faithfulness.bench import Bench
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


def test_texts_differ_in_the_word_of_the_second_class_alone(tmp_path) -> None:
    vocabulary = wordy_bench(tmp_path).checkpoint.vocabulary
    found = class_texts(vocabulary, ("early words", "later words"))
    again = class_texts(vocabulary, ("early words", "later words"))
    assert torch.equal(found.having, again.having)
    assert found.having.shape == found.lacking.shape == (TEXTS, LENGTH)
    assert (found.having[:, 0] == vocabulary.start[0]).all()
    each = torch.arange(TEXTS)
    assert set((found.queries - found.keys).tolist()) == set(DISTANCES)
    assert int(found.queries.min()) >= LENGTH - LATE
    others = found.having.clone()
    others[each, found.keys] = found.lacking[each, found.keys]
    assert torch.equal(others, found.lacking)
    for ids, place, of in ((found.having, found.queries, EARLY), (found.having, found.keys, LATER)):
        words = [vocabulary.text(i) for i in ids[each, place].tolist()]
        assert all(of.holds(word) and not in_finding_half(word) for word in words)
        assert len(set(words)) > 3


def test_where_all_words_are_said_to_attend_none_is_put_in_their_place(tmp_path) -> None:
    vocabulary = wordy_bench(tmp_path).checkpoint.vocabulary
    found = class_texts(vocabulary, (None, "later words"))
    asking = [vocabulary.text(i) for i in found.having[torch.arange(TEXTS), found.queries].tolist()]
    assert not all(EARLY.holds(word) for word in asking)
    assert not all(LATER.holds(word) for word in asking)


def measured(bench: Bench, texts: ClassTexts) -> ClassMeasure:
    return class_measure(*(attention_logs(bench.model, ids, texts) for ids in (texts.having, texts.lacking)))


def test_pairs_of_one_first_class_share_the_texts_without_the_second(tmp_path) -> None:
    vocabulary = wordy_bench(tmp_path).checkpoint.vocabulary
    first, second = (class_texts(vocabulary, ("early words", seeks)) for seeks in ("later words", "early words"))
    for name in ("lacking", "queries", "keys"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(first.having, second.having)


def test_nats_are_those_of_the_plain_computation(tmp_path) -> None:
    bench = wordy_bench(tmp_path)
    texts = class_texts(bench.checkpoint.vocabulary, ("early words", "later words"))
    found = measured(bench, texts)
    layer, head, nats = 1, 2, []
    for text in range(TEXTS):
        query, key = int(texts.queries[text]), int(texts.keys[text])
        seen = [
            bench.model.model(input_ids=ids[text, None], output_attentions=True).attentions[layer][0, head, query, key]
            for ids in (texts.having, texts.lacking)
        ]
        nats.append(float(torch.log(seen[0] / seen[1])))
    assert min(nats) > torch.tensor(FLOOR).log()
    assert float(found.mean[layer, head]) == pytest.approx(sum(nats) / TEXTS, abs=1e-4)
    assert float(found.error[layer, head]) == pytest.approx(float(torch.tensor(nats).std()) / TEXTS**0.5, abs=1e-4)
    again = ClassMeasure.from_json(found.to_json())
    assert torch.allclose(again.mean, found.mean, atol=1e-6)


def test_pairs_come_once() -> None:
    claims = [Claim(0, head, reads, "b", 1.0) for head, reads in enumerate(("a", None, "a"))]
    assert pairs_of(claims) == (("a", "b"), (None, "b"))


@pytest.mark.filterwarnings("error")
def test_claims_stand_beside_the_running_model(tmp_path, monkeypatch) -> None:
    """Bounds are taken off, so that a model of chance has claims; they then hold about as often as not."""
    monkeypatch.setattr(class_fits, "STRENGTH", 0.0)
    monkeypatch.setattr(class_fits, "LOGIT", 0.0)
    bench = wordy_bench(tmp_path)
    result = attention(bench, some_texts(bench.checkpoint)[:1], max_tokens=2 * OF_A_PIECE).to_json()
    found = result["classes"]
    rows = found["by_claim"]
    assert found["claims"] == len(rows) > 3
    assert found["held"]["value"] == pytest.approx(sum(row["low"] > 0 for row in rows) / len(rows), abs=1e-3)
    assert found["real"]["value"] == pytest.approx(sum(row["real"] for row in rows) / len(rows), abs=1e-3)
    row = rows[0]
    own = measured(bench, class_texts(bench.checkpoint.vocabulary, (row["from"], row["to"])))
    assert row["real"] == pytest.approx(float(own.mean[row["layer"], row["head"]]), abs=1e-4)
    assert row["low"] < row["real"] < row["high"]
    others = [
        float(own.mean[row["layer"], head])
        for head in range(4)
        if (row["layer"], head, row["from"], row["to"])
        not in {(one["layer"], one["head"], one["from"], one["to"]) for one in rows}
    ]
    assert row["others"] == (pytest.approx(sum(others) / len(others), abs=1e-4) if others else None)
    table, sentences = attention_table(result), " ".join(read_attention(result))
    assert f"\n| {len(rows)} | " in table
    assert f"Heads are said {len(rows)} times to attend from one class of words to another" in sentences
    read, real = class_points(result)
    assert class_scatter(read, real).rstrip().endswith(b"</svg>")


def test_results_from_before_this_was_measured_are_shown_without() -> None:
    assert class_points({}) == ([], [])
