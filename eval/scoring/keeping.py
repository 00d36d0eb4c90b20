"""Where scores are kept as they come, so that a stopped run continues: a JSONL file, the database, or both.

The file holds one line of settings, one line for each head and scorer, and at the end the summary. It is written anew
beside its place and moved there after every head: a reader sees a whole file. Other settings are refused.
The database keeps scores beside the description that they are of; other settings are other rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import delete, select

from agent.runs.database import reading, writing
from agent.runs.identity import content_hash
from agent.runs.records import DescriptionRecord, DescriptionScoreRecord, HeadRecord
from eval.errors import BadImport, MixedResults
from eval.results_folder import write_whole
from eval.scoring.results import HeadKey, HeadScore, ScorerSummary

if TYPE_CHECKING:
    from sqlalchemy import Engine

Identity = Mapping[str, Any]
ScoreKey = tuple[HeadKey, str]


class Keeper(Protocol):
    """Scores under one identity."""

    def known(self) -> Sequence[HeadScore]: ...
    def keep(self, scores: Sequence[HeadScore]) -> None: ...


@dataclass
class JsonlKeeper:
    """A file of lines. Raises MixedResults when it holds scores of other settings, BadImport for any other file."""

    path: Path
    identity: Identity
    _scores: dict[ScoreKey, HeadScore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in self._lines():
            if "settings" in value and value["settings"] != dict(self.identity):
                raise _mixed(self.path, value["settings"], self.identity)
            if "score" in value:
                self._add([HeadScore.from_json(value["score"])])

    def known(self) -> list[HeadScore]:
        return list(self._scores.values())

    def keep(self, scores: Sequence[HeadScore]) -> None:
        self._add(scores)
        self._write()

    def finish(self, summaries: Sequence[ScorerSummary]) -> None:
        """The whole file, with the summary of what was asked for last."""
        self._write([{"summary": [one.to_json() for one in summaries]}])

    def _add(self, scores: Iterable[HeadScore]) -> None:
        self._scores |= {((one.layer, one.head), one.scorer): one for one in scores}

    def _write(self, more: Sequence[dict[str, Any]] = ()) -> None:
        ordered = [self._scores[key] for key in sorted(self._scores)]
        values = [{"settings": dict(self.identity)}, *({"score": one.to_json()} for one in ordered), *more]
        text = "".join(json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n" for value in values)
        write_whole(self.path, text.encode("ascii"))

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        try:
            values = [json.loads(line) for line in self.path.read_text("utf-8").splitlines() if line.strip()]
            if values and "settings" not in values[0]:
                raise KeyError("settings")
            for value in values:
                if "score" in value:
                    HeadScore.from_json(value["score"])
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            raise BadImport(
                "this file holds something else than scores",
                got=self.path,
                expected="a new file, or one that score-descriptions wrote",
            ) from error
        return values


def _mixed(path: Path, found: Mapping[str, Any], wanted: Identity) -> MixedResults:
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return MixedResults(
        f"{path.name} holds scores made under other settings",
        got=", ".join(f"{key} {found.get(key)}" for key in keys),
        expected=", ".join(f"{key} {wanted.get(key)}" for key in keys),
        next_step="Give another --output, the same settings as before, or delete that file.",
    )


@dataclass(frozen=True)
class DatabaseKeeper:
    """Rows of `description_scores` of one run."""

    engine: Engine
    run_id: int
    identity: Identity

    @property
    def settings_hash(self) -> str:
        return content_hash(dict(self.identity))

    def known(self) -> list[HeadScore]:
        query = (
            select(DescriptionScoreRecord.details)
            .join(DescriptionScoreRecord.description)
            .join(DescriptionRecord.head)
            .where(HeadRecord.run_id == self.run_id, DescriptionScoreRecord.settings_hash == self.settings_hash)
        )
        with reading(self.engine) as session:
            return [HeadScore.from_json(details) for details in session.scalars(query)]

    def keep(self, scores: Sequence[HeadScore]) -> None:
        """In one transaction; the same head, scorer and settings replace. A head that is gone is left out."""
        with writing(self.engine) as session:
            rows = session.execute(
                select(HeadRecord.layer, HeadRecord.head, DescriptionRecord.id)
                .join(DescriptionRecord)
                .where(HeadRecord.run_id == self.run_id)
            )
            ids = {(layer, head): number for layer, head, number in rows}
            for one in scores:
                if (one.layer, one.head) not in ids:
                    continue
                number, digest = ids[one.layer, one.head], self.settings_hash
                session.execute(
                    delete(DescriptionScoreRecord).where(
                        DescriptionScoreRecord.description_id == number,
                        DescriptionScoreRecord.settings_hash == digest,
                        DescriptionScoreRecord.scorer == one.scorer,
                    )
                )
                session.add(_record(one, number, digest, str(self.identity["judge"])))


def _record(one: HeadScore, description_id: int, digest: str, judge: str) -> DescriptionScoreRecord:
    return DescriptionScoreRecord(
        description_id=description_id,
        settings_hash=digest,
        judge=judge,
        scorer=one.scorer,
        score=one.own.score,
        low=one.own.low,
        high=one.own.high,
        n=one.own.n,
        swapped=one.swapped.score if one.swapped else None,
        details=one.to_json(),
        created=time.time(),
    )
