"""Classes that attend to classes: a planted pair is found, what holds in one half alone is not, noise is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maps_engine.ordinary_words import in_finding_half
from maps_engine.qk.class_fits import FEWEST, LOGIT, SHOWN, STRENGTH, ClassHalves, class_fits
from maps_engine.qk.content import Content

WORDS = [f"word{i}" for i in range(600)]
HALF = torch.tensor([in_finding_half(word) for word in WORDS])


@dataclass(frozen=True)
class Named:
    label: str
    holds: Callable[[str], bool]


def among(first: int, last: int) -> Callable[[str], bool]:
    return lambda text: first <= int(text[4:]) < last


CLASSES = (Named("firsts", among(0, 60)), Named("seconds", among(60, 120)), Named("few", among(120, 124)))


def noise(n_heads: int = 2) -> Content:
    chance = torch.Generator().manual_seed(0)
    return Content(*(torch.randn(n_heads, len(WORDS), 8, generator=chance) for _ in range(2)))


def planted(queries: Tensor, keys: Tensor, by: float = 3.0) -> Content:
    """Head 0 lets the words of one mask attend to those of the other."""
    read = noise()
    read.queries[0, queries, 0] += by
    read.keys[0, keys, 0] += by
    return read


def halves() -> ClassHalves:
    return ClassHalves.of(WORDS, CLASSES, torch.device("cpu")).among(torch.ones(len(WORDS), dtype=torch.bool))


def members(label: str) -> Tensor:
    holds = next(one.holds for one in CLASSES if one.label == label)
    return torch.tensor([holds(word) for word in WORDS])


def test_a_planted_pair_is_found_with_its_mean_logit() -> None:
    read = planted(members("firsts"), members("seconds"))
    (found, *others), of_noise = class_fits(read, halves())
    assert (found.reads, found.seeks) == ("firsts", "seconds")
    assert found.strength >= STRENGTH
    assert found.logit >= LOGIT
    own = read.centred.queries[0] @ read.centred.keys[0].T
    words = [members(label) & ~HALF for label in ("firsts", "seconds")]
    assert abs(found.logit - float(own[words[0]][:, words[1]].mean())) < 1e-4
    assert of_noise == ()
    assert len(others) < SHOWN


def test_keys_that_all_queries_prefer_are_told_without_a_class_of_queries() -> None:
    read = planted(torch.ones(len(WORDS), dtype=torch.bool), members("seconds"))
    (found, *_), _ = class_fits(read, halves())
    assert (found.reads, found.seeks) == (None, "seconds")


def test_what_one_half_shows_and_the_other_does_not_is_not_told() -> None:
    for half in (HALF, ~HALF):
        read = planted(members("firsts") & half, members("seconds") & half)
        assert list(class_fits(read, halves())) == [(), ()]


def test_classes_of_few_words_are_left_out() -> None:
    assert halves().labels == ("firsts", "seconds")
    fewer = HALF.clone()
    fewer[60:] = True
    left = ClassHalves.of(WORDS, CLASSES, torch.device("cpu")).among(fewer)
    assert all(min(left.finding.sum(dim=1).min(), left.testing.sum(dim=1).min()) >= FEWEST for _ in left.labels)
    assert "firsts" not in left.labels


def test_no_classes_and_dead_heads_give_nothing() -> None:
    none = ClassHalves.of(WORDS, (), torch.device("cpu")).among(HALF)
    assert list(class_fits(noise(), none)) == [(), ()]
    dead = Content(torch.zeros(1, len(WORDS), 8), torch.zeros(1, len(WORDS), 8))
    assert list(class_fits(dead, halves())) == [()]
