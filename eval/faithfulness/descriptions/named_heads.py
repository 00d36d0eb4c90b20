"""The named heads of a stored run, each with the new pairs that its name predicts, and what else it is said to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.checks.new_pairs import plan_test, predicted_pairs, shown_sources
from agent.checks.trials import part_of
from agent.errors import UnknownRun
from agent.pipeline.head_operations import SAID
from agent.results.descriptions import Claim, HeadDescription
from agent.results.outcomes import HeadOperation
from agent.runs.database import reading
from agent.runs.head_rows import folded_name, judging_of, named_part_judging
from agent.runs.records import ModelRecord, RunRecord
from agent.runs.state import HeadKey, newest_run, run_record
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
    """A head with one thing that it is said to do, and the pairs to run; `why` there are none, where there are none."""

    mapping: HeadMapping
    operation: str
    verdict: str  # of the run's own test
    pairs: PairSet | None
    why: str = ""
    recorded: bool = True  # the name of the head; else another of its operations
    by_pairs: bool = False  # a relation's pairs show it, and not a form of the same name


@dataclass(frozen=True)
class NamedRun:
    """The heads of a run that have a name, and how many of its heads are ok, unclear and failed.

    `said` has all that each head is said to do, as `folded_name` spells it, other names of the same among it.
    """

    number: int
    heads: tuple[NamedHead, ...]
    statuses: Mapping[str, int]
    said: Mapping[HeadKey, frozenset[str]]


def named_run(
    engine: Engine,
    number: int | None,
    checkpoint: Checkpoint,
    relations: Sequence[Relation],
    *,
    max_pairs: int,
    each_operation: bool = False,
) -> NamedRun:
    """The run of that number, or the newest finished one of the checkpoint; at most `max_pairs` pairs a name.

    With `each_operation` all that a head is said to do, its name first.

    Raises UnknownRun without such a run, UserMistake where it is of another model.
    """
    run_id = run_of_checkpoint(engine, number, checkpoint)
    heads = list(stored_heads(engine, run_id))
    pairs = _PairsOfNames(checkpoint.vocabulary, relations, max_pairs)
    named: list[NamedHead] = []
    for one in heads:
        named += [pairs.of_name(one)] if one.status == "ok" else []
        named += pairs.of_operations(one) if each_operation else []
    said = {(one.layer, one.head): _said(one) for one in heads}
    return NamedRun(run_id, tuple(named), Counter(one.status for one in heads), said)


def _said(head: StoredHead) -> frozenset[str]:
    """All that a head is said to do, other names of the same among it."""
    recorded = [head.operation] if head.status == "ok" else []
    return frozenset(map(folded_name, (*recorded, *(name for one in head.operations for name in one.names))))


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


def read_by(head: StoredHead) -> HeadMapping:
    """What the description was read from: the head, or the part that named it."""
    named = next((one for one in head.operations if one.operation == head.operation), None)
    attempts = (head.trace or {}).get("attempts") or [{}]
    of_part = named is not None and (named.kind == "part" or attempts[-1].get("decision") == "named by a part")
    part = named.part if named is not None and of_part else None
    return head.mapping if part is None else head.mapping.of_part(part)


@dataclass(frozen=True)
class _PairsOfNames:
    """The pairs that a description's own test used, as far as the database or the label tells.

    Pairs that were kept for the final test are stored with the head and its named parts; else they are made of the
    label anew, in the same order. No describer is asked.
    """

    vocabulary: Vocabulary
    relations: Sequence[Relation]
    max_pairs: int

    def of_name(self, head: StoredHead) -> NamedHead:
        """The name of a head."""
        said = HeadDescription("ok", head.describer, operation=head.operation, claims=head.claims)
        pairs, why = self._planned(said, read_by(head), head, judging_of(head.trace))
        return NamedHead(head.mapping, head.operation, head.verdict or NOT_TESTED, pairs, why, by_pairs=said.by_pairs)

    def of_operations(self, head: StoredHead) -> list[NamedHead]:
        """What a head does besides."""
        others = (one for one in head.operations if folded_name(one.operation) != folded_name(head.operation))
        return [self._of_operation(one, head) for one in others]

    def _of_operation(self, one: HeadOperation, head: StoredHead) -> NamedHead:
        said, judging = _as_description(one), named_part_judging(head.trace, one.operation, one.part)
        of_part = one.kind == "part" or judging is not None
        mapping = head.mapping if one.part is None or not of_part else head.mapping.of_part(one.part)
        pairs, why = self._planned(said, mapping, head, judging)
        return NamedHead(head.mapping, one.operation, one.test.verdict, pairs, why, False, said.by_pairs)

    def _planned(
        self, said: HeadDescription, mapping: HeadMapping, head: StoredHead, judging: PairSet | None
    ) -> tuple[PairSet | None, str]:
        seen = frozenset((head.trace or {}).get("seen", ()))
        if judging is None:
            found = predicted_pairs(
                said,
                relations=self.relations,
                vocabulary=self.vocabulary,
                excluded=shown_sources(mapping) | seen,
                proposer=None,
                n=self.max_pairs,
            )
            if found.problem:
                return None, found.problem
            judging = found.pairs
        plan = plan_test(
            said, mapping, vocabulary=self.vocabulary, relations=self.relations, seen=seen, judging=judging
        )
        if plan.pairs is None:
            return None, plan.untestable
        pairs = part_of(plan.pairs, range(min(self.max_pairs, len(plan.pairs.sources))))
        return replace(pairs, others=pairs.others[: self.max_pairs]), ""


def _as_description(one: HeadOperation) -> HeadDescription:
    """An operation as a description of the kind that it was; who said it in words of their own may have been told."""
    kind = "facts-shown" if one.kind == SAID else one.kind
    return HeadDescription("ok", one.describer, operation=one.operation, claims=(Claim(kind, one.operation, 0, 0),))
