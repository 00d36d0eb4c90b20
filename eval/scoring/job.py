"""Scores of many heads: questions built, put to the judge for the own and the swapped description, kept as they come.

Heads are scored one after another, or several at a time where the judge is a language model. Generation comes last:
the pairs of a batch of heads are scored in one pass over the model (docs/method.md, "Scores of descriptions").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from agent.runs.identity import content_hash
from eval.judges.protocol import Judge
from eval.judges.said import Said
from eval.scoring.collection import Collection
from eval.scoring.keepers import Keeper
from eval.scoring.questions.foreign_rows import RowsOf, borrowed_rows
from eval.scoring.questions.generation import Generator, PlannedPairs
from eval.scoring.questions.items import Material
from eval.scoring.questions.scorers import GENERATION, ROW_SCORERS, judge_items
from eval.scoring.questions.swaps import Swap, family_of, foreign_heads, swaps
from eval.scoring.results import HeadKey, HeadScore, Item, Outcome, Subject

FORMAT: Final = 2  # of the questions and how pairs are scored: another number never shares results with this one
GENERATION_BATCH: Final = 32  # heads whose pairs are scored in one pass
Scored = Future[list[HeadScore]]
Tell = Callable[[str, int, int], None]  # stage, how much of it is done, of how much


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True)
class ScoreJob:
    """Which heads, by which scorers and judge, on which questions.

    keys: (layer, head) of the heads to score. items: questions about one head for each scorer. rows_of: where hard
    negatives come from, the weights or the rows at hand. generator: needed for the scorer `generation` alone.
    """

    collection: Collection
    keys: Sequence[HeadKey]
    scorers: Sequence[str]
    judge: Judge
    items: int = 20
    seed: int = 0
    workers: int = 8
    rows_of: RowsOf = borrowed_rows
    generator: Generator | None = None
    tell: Tell = field(default=_silent)

    def identity(self) -> dict[str, Any]:
        """All that decides a head's scores, whichever heads and scorers are asked for; plain JSON values."""
        return {
            "format": FORMAT,
            "judge": self.judge.name,
            "judge settings": content_hash(dict(self.judge.settings))[:16],
            "descriptions": self.collection.hash()[:16],
            "hard negatives": "borrowed targets" if self.rows_of is borrowed_rows else "weights",
            "items": self.items,
            "seed": self.seed,
        }

    @cached_property
    def subjects(self) -> dict[HeadKey, Subject]:
        return {one.key: one for one in self.collection.subjects}

    @cached_property
    def swaps(self) -> dict[HeadKey, Swap]:
        """Over all described heads, so that a head keeps its control whichever heads are asked for."""
        families = {one.key: family_of(one.description.operation) for one in self.collection.described}
        return swaps(families, seed=self.seed)

    def run(self, keepers: Sequence[Keeper] = ()) -> list[HeadScore]:
        """Scores of all heads and scorers, in order; what a keeper knows is not asked again.

        New scores go to every keeper as they come, so that a stopped run continues. Raises BudgetSpent, DescriberDown,
        DatabaseUnusable, Failure.
        """
        known = {((one.layer, one.head), one.scorer): one for keeper in keepers for one in keeper.known()}
        wanted = [(key, scorer) for key in self.keys for scorer in self.scorers]
        found = {pair: known[pair] for pair in wanted if pair in known}
        for keeper in keepers:
            have = {((one.layer, one.head), one.scorer) for one in keeper.known()}
            missing = [one for pair, one in found.items() if pair not in have]
            if missing:
                keeper.keep(missing)
        for scores in self._new_scores([pair for pair in wanted if pair not in found]):
            for keeper in keepers:
                keeper.keep(scores)
            found |= {((one.layer, one.head), one.scorer): one for one in scores}
        return [found[pair] for pair in wanted]

    def _new_scores(self, missing: Sequence[tuple[HeadKey, str]]) -> Iterator[list[HeadScore]]:
        by_head: dict[HeadKey, list[str]] = {}
        for key, scorer in missing:
            if scorer != GENERATION:
                by_head.setdefault(key, []).append(scorer)
        for done, scores in enumerate(self._by_rows(by_head), 1):
            self.tell("scoring heads", done, len(by_head))
            yield scores
        yield from self._by_weights([key for key, scorer in missing if scorer == GENERATION])

    def _by_rows(self, by_head: dict[HeadKey, list[str]]) -> Iterator[list[HeadScore]]:
        if not self.judge.asks_a_model:
            for key, scorers in by_head.items():
                yield self._judge_head(key, {name: self._items(key, name) for name in scorers})
            return
        with ThreadPoolExecutor(self.workers, thread_name_prefix="score") as pool:
            futures = []
            for place, (key, scorers) in enumerate(by_head.items(), 1):  # one thread alone reads the weights
                self.tell("preparing questions", place, len(by_head))
                futures.append(pool.submit(self._judge_head, key, {name: self._items(key, name) for name in scorers}))
            try:
                yield from _those_that_came(pool, futures)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _items(self, key: HeadKey, scorer: str) -> list[Item]:
        subject, swap = self.subjects[key], self.swaps.get(key)
        foreign = foreign_heads(subject, swap, self.collection.subjects, seed=self.seed)
        return ROW_SCORERS[scorer].build(Material(subject, foreign, self.rows_of, self.items, self.seed))

    def _judge_head(self, key: HeadKey, items: dict[str, list[Item]]) -> list[HeadScore]:
        subject, swap = self.subjects[key], self.swaps.get(key)
        scores = []
        for name, questions in items.items():
            scorer = ROW_SCORERS[name]
            own = judge_items(scorer, self.judge, Said.of(subject.description), questions, seed=self.seed)
            swapped = None
            if swap is not None:
                other = Said.of(self.subjects[swap.giver].description)
                swapped = judge_items(scorer, self.judge, other, questions, seed=self.seed)
            scores.append(self._score(key, name, own, swapped))
        return scores

    def _by_weights(self, keys: Sequence[HeadKey]) -> Iterator[list[HeadScore]]:
        if not keys:
            return
        generator = self.generator
        if generator is None:
            raise ValueError("generation needs the weights")
        for start in range(0, len(keys), GENERATION_BATCH):
            self.tell("scoring generated pairs on the weights", start, len(keys))
            batch = keys[start : start + GENERATION_BATCH]
            with ThreadPoolExecutor(self.workers if self.judge.asks_a_model else 1) as pool:
                own = list(pool.map(lambda key: self._plan(generator, key, key), batch))
                givers = [(key, self.swaps[key].giver) for key in batch if key in self.swaps]
                other = list(pool.map(lambda pair: self._plan(generator, *pair), givers))
            outcomes = generator.score([*own, *other])
            swapped = dict(zip((key for key, _ in givers), outcomes[len(own) :], strict=True))
            yield [
                self._score(key, GENERATION, outcome, swapped.get(key))
                for key, outcome in zip(batch, outcomes, strict=False)
            ]
        self.tell("scoring generated pairs on the weights", len(keys), len(keys))

    def _plan(self, generator: Generator, key: HeadKey, giver: HeadKey) -> PlannedPairs:
        return generator.plan(self.subjects[key], self.subjects[giver].description, self.judge)

    def _score(self, key: HeadKey, scorer: str, own: Outcome, swapped: Outcome | None) -> HeadScore:
        swap = self.swaps.get(key)
        return HeadScore(
            layer=key[0],
            head=key[1],
            scorer=scorer,
            operation=self.subjects[key].description.operation,
            own=own,
            swapped=swapped,
            swapped_from=swap.giver if swap else None,
            same_operation=swap.same_operation if swap else False,
        )


def _those_that_came(pool: ThreadPoolExecutor, futures: Sequence[Scored]) -> Iterator[list[HeadScore]]:
    """Scores as they come. After a failure, first all others that came or were at work, since replies cost."""
    waiting, failure = set(futures), None
    for future in as_completed(futures):
        failure = future.exception()
        if failure is not None:
            break
        waiting.remove(future)
        yield future.result()
    if failure is not None:
        pool.shutdown(wait=True, cancel_futures=True)
        yield from (one.result() for one in waiting if not one.cancelled() and one.exception() is None)
        raise failure
