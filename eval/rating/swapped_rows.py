"""For control items: what a head maps the words to by which another head's description was tested.

A rater sees such rows beside every description. Those of a swapped description have to be its own words, read on the
head of the item: with the head's own words, or without any, a rater could tell the swap without judging it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.runs.stored import stored_heads
from eval.errors import BadStudy
from eval.rating.heads.described import Head, Row, row_of
from eval.rating.items import Swap
from maps_engine.errors import HeadscribeError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from agent.checks.pair_scorer import PairScorer

WITHOUT = "Make the study without rows of the words that descriptions were tested on (--no-tested-rows)."


class SwappedRows:
    """Reads them from the model of a run, which is opened when there is something to read."""

    def __init__(self, database: Engine, run_id: int) -> None:
        self._database, self._run_id = database, run_id

    def __call__(self, swaps: Sequence[Swap]) -> list[tuple[Row, ...]]:
        """The rows of each swap: the words of the donor's test, read on the host.

        Raises BadStudy where the model cannot be opened or read.
        """
        wanted: dict[tuple[int, int], tuple[int, ...]] = {}
        for host, donor in swaps:
            wanted[_place(host)] = tuple(dict.fromkeys((*wanted.get(_place(host), ()), *donor.tested_ids)))
        if not any(wanted.values()):
            return [() for _ in swaps]
        try:
            found = self._scorer().rows_of_heads(wanted)
        except HeadscribeError as error:
            raise BadStudy(error.what, got=error.got, expected=error.expected, next_step=WITHOUT) from error
        read = {place: {row.token_id: row_of(row) for row in rows} for place, rows in found.items()}
        return [tuple(read[_place(host)][token] for token in donor.tested_ids) for host, donor in swaps]

    def _scorer(self) -> PairScorer:
        from agent.checks.pair_scorer import PairScorer  # torch: only where there is something to read
        from agent.pipeline.stored_model import open_stored_model

        first = next(stored_heads(self._database, self._run_id))
        return PairScorer(
            open_stored_model(first.model, fingerprint=first.fingerprint, settings=first.settings, next_step=WITHOUT)
        )


def _place(head: Head) -> tuple[int, int]:
    return head.layer, int(head.origin["head"])
