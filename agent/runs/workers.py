"""What worker processes need of a run beyond claims: names that show whether they live, and replies kept early.

A description that cost a language model's reply is kept as soon as it arrives, before its test, so that a killed
process loses no more than the replies in flight. Such a head stays claimed; whoever takes it over only tests it.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import joinedload

from agent.results.descriptions import HeadDescription
from agent.results.evidence import Retrieved
from agent.results.reports import HeadReport, Trace
from agent.runs.database import reading, writing
from agent.runs.head_rows import claims_of, put_description, put_mapping, retrieved_of, trace_of
from agent.runs.records import DescriptionRecord, HeadRecord
from agent.runs.state import HeadKey


def worker_name() -> str:
    """Unique to this process and call; says host, process and when the process began."""
    pid = os.getpid()
    return f"{socket.gethostname()[:80]}|{pid}|{_began(pid)}|{uuid.uuid4().hex[:8]}"


def is_dead(worker: str) -> bool:
    """Whether `worker` was a process of this machine that has ended; False where that cannot be known."""
    parts = worker.split("|")
    if len(parts) != 4 or parts[0] != socket.gethostname()[:80] or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _began(pid) != parts[2]  # another process under the same number


def _began(pid: int) -> str:
    """The process's start in clock ticks since boot (Linux), or "" where that is unknown or the process is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def release_dead(engine: Engine, run_id: int) -> int:
    """Give back the heads of processes of this machine that were killed; returns how many."""
    where = (HeadRecord.run_id == run_id, HeadRecord.state == "claimed")
    with reading(engine) as session:
        owners = set(session.scalars(select(HeadRecord.claimed_by).where(*where).distinct()))
    dead = [owner for owner in owners if owner and is_dead(owner)]
    if not dead:
        return 0
    with writing(engine) as session:
        heads = session.scalars(select(HeadRecord).where(*where, HeadRecord.claimed_by.in_(dead))).all()
        for head in heads:
            head.state, head.claimed_by, head.claim_expires = "waiting", None, None
        return len(heads)


@dataclass(frozen=True)
class KeptReply:
    """A description that was kept before its test."""

    description: HeadDescription
    retrieved: tuple[Retrieved, ...]
    trace: Trace


def keep_reply(engine: Engine, run_id: int, report: HeadReport, *, worker: str, category: str | None = None) -> bool:
    """Keep an untested report while `worker` holds the head; False when it no longer does."""
    mapping = report.mapping
    with writing(engine) as session:
        place = (HeadRecord.run_id == run_id, HeadRecord.layer == mapping.layer, HeadRecord.head == mapping.head)
        record = session.scalar(select(HeadRecord).where(*place))
        if record is None or record.state != "claimed" or record.claimed_by != worker:
            return False
        put_mapping(session, record, mapping)
        put_description(session, record, report, category=category, when=time.time())
        return True


def kept_replies(engine: Engine, run_id: int, heads: Iterable[HeadKey]) -> dict[HeadKey, KeptReply]:
    """Descriptions of unfinished heads that an earlier process kept."""
    wanted = set(heads)
    query = (
        select(HeadRecord)
        .join(HeadRecord.description)
        .options(joinedload(HeadRecord.description).undefer(DescriptionRecord.trace))
        .where(HeadRecord.run_id == run_id, HeadRecord.state != "done")
    )
    with reading(engine) as session:
        found = session.scalars(query).all()
        return {
            (one.layer, one.head): _kept(one.description)
            for one in found
            if (one.layer, one.head) in wanted and one.description is not None
        }


def _kept(record: DescriptionRecord) -> KeptReply:
    provenance = dict(record.provenance)
    description = HeadDescription(
        status=record.status,  # type: ignore[arg-type]  # one of STATUSES by construction
        describer=str(provenance.get("describer", "")),
        input_strings=record.input_strings,
        observed_pattern=record.observed_pattern,
        operation=record.operation,
        confidence=record.confidence,
        reasoning=record.reasoning,
        claims=claims_of(record.claims),
        reason=record.reason,
        raw_reply=str(record.raw_reply or ""),
        settings=dict(provenance.get("describer_settings", {})),
    )
    return KeptReply(description, retrieved_of(record.retrieved), trace_of(record))
