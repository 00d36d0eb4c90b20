"""The named heads of a stored run, each with the new pairs that its name predicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.checks.new_pairs import plan_test, predicted_pairs, shown_sources
from agent.checks.trials import part_of
from agent.errors import UnknownRun
from agent.results.descriptions import HeadDescription
from agent.runs.database import reading
from agent.runs.head_rows import judging_of
from agent.runs.records import ModelRecord, RunRecord
from agent.runs.state import newest_run, run_record
from agent.runs.stored import StoredHead, stored_heads
from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint, Vocabulary
from maps_engine.ov.pair_scores import PairSet
from maps_engine.relations.catalogue import Relation
from maps_engine.results import HeadMapping

if TYPE_CHECKING:
    from sqlalchemy import Engine

NOT_TESTED = "not tested"  # verdict of a description that was stored without a test


@dataclass(frozen=True)
class NamedHead:
    """A head with the name that it was given, and the pairs to run; `why` there are none, where there are none."""

    mapping: HeadMapping
    operation: str
    verdict: str  # of the run's own test
    pairs: PairSet | None
    why: str = ""


@dataclass(frozen=True)
class NamedRun:
    """The heads of a run that have a name, and how many of its heads are ok, unclear and failed."""

    number: int
    heads: tuple[NamedHead, ...]
    statuses: Mapping[str, int]


def named_run(
    engine: Engine, number: int | None, checkpoint: Checkpoint, relations: Sequence[Relation], *, max_pairs: int
) -> NamedRun:
    """The run of that number, or the newest finished one of the checkpoint; at most `max_pairs` pairs a head.

    Raises UnknownRun without such a run, UserMistake where it is of another model.
    """
    run_id = run_of_checkpoint(engine, number, checkpoint)
    heads = list(stored_heads(engine, run_id))
    named = (_named(one, checkpoint.vocabulary, relations, max_pairs) for one in heads if one.status == "ok")
    return NamedRun(run_id, tuple(named), Counter(one.status for one in heads))


def run_of_checkpoint(engine: Engine, number: int | None, checkpoint: Checkpoint) -> int:
    """The run of that number, or the newest finished one of the checkpoint. Raises UnknownRun, UserMistake."""
    with reading(engine) as session:
        if number is None:
            of_model = ModelRecord.fingerprint == checkpoint.fingerprint
            run = newest_run(session, RunRecord.state == "finished", of_model)
            if run is None:
                raise UnknownRun(
                    f"no finished run of {checkpoint.name} in the database", next_step="label-heads makes one."
                )
            return run.id
        model = run_record(session, number).model
        if model.fingerprint != checkpoint.fingerprint:
            raise UserMistake(
                f"run {number} is of another model",
                got=f"{model.name}, checkpoint {model.fingerprint[:12]}",
                expected=f"{checkpoint.name}, checkpoint {checkpoint.fingerprint[:12]}",
                next_step="Give that model with --model, or another --run.",
            )
        return number


def _named(head: StoredHead, vocabulary: Vocabulary, relations: Sequence[Relation], max_pairs: int) -> NamedHead:
    pairs, why = new_pairs(head, vocabulary, relations, max_pairs=max_pairs)
    return NamedHead(head.mapping, head.operation, head.verdict or NOT_TESTED, pairs, why)


def read_by(head: StoredHead) -> HeadMapping:
    """What the description was read from: the head, or the part that named it."""
    named = next((one for one in head.operations if one.operation == head.operation), None)
    attempts = (head.trace or {}).get("attempts") or [{}]
    of_part = named is not None and (named.kind == "part" or attempts[-1].get("decision") == "named by a part")
    part = named.part if named is not None and of_part else None
    return head.mapping if part is None else head.mapping.of_part(part)


def new_pairs(
    head: StoredHead, vocabulary: Vocabulary, relations: Sequence[Relation], *, max_pairs: int
) -> tuple[PairSet | None, str]:
    """The pairs that the description's own test used, as far as the database or the label tells; else why not.

    Pairs that were kept for the final test are stored with the head; else they are made of the label anew, in the
    same order. No describer is asked.
    """
    said = HeadDescription("ok", head.describer, operation=head.operation, claims=head.claims)
    seen = frozenset((head.trace or {}).get("seen", ()))
    mapping = read_by(head)
    pairs = judging_of(head.trace)
    if pairs is None:
        found = predicted_pairs(
            said,
            relations=relations,
            vocabulary=vocabulary,
            excluded=shown_sources(mapping) | seen,
            proposer=None,
            n=max_pairs,
        )
        if found.problem:
            return None, found.problem
        pairs = found.pairs
    plan = plan_test(said, mapping, vocabulary=vocabulary, relations=relations, seen=seen, judging=pairs)
    if plan.pairs is None:
        return None, plan.untestable
    pairs = part_of(plan.pairs, range(min(max_pairs, len(plan.pairs.sources))))
    return replace(pairs, others=pairs.others[:max_pairs]), ""
