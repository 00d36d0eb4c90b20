"""One process that labels heads of a run until none is left; imported by spawned processes, so kept light."""

from __future__ import annotations

from agent.runs.claims import claim_heads
from agent.runs.database import open_database
from agent.runs.store import store_result
from tests.support.believable import a_mapping, a_report


def work(url: str, run: int, worker: str) -> None:
    """Claim two heads at a time and store an unclear result for each."""
    engine = open_database(url)
    while claimed := claim_heads(engine, run, worker=worker, limit=2):
        for layer, head in claimed:
            report = a_report(a_mapping(layer, head, operation=None), None, "unclear")
            assert store_result(engine, run, report, worker=worker)
