"""What the Python interface gives back: frozen, a table in a notebook, plain values by `to_dict()`.

Tokens in tables stand as `visible` writes them (a blank as a mark, control characters escaped), so that they are inert
in a page; `to_dict()` has them as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from agent.results.descriptions import Status
from agent.results.outcomes import HeadOperation, Verdict
from agent.results.reports import HeadReport
from agent.runs.state import HeadKey
from agent.runs.stored import StoredHead, stored_heads
from maps_engine.checkpoints.token_spelling import visible
from maps_engine.results import ConstantPart, HeadMapping, HeadPart, MappingRow
from maps_engine.scores.table import ModelScores
from maps_engine.scores.table_json import scores_to_json

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy import Engine

SHOWN = 30  # rows of a table in a notebook


def as_html(title: str, rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> str:
    """A small table with its title; every cell escaped."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    more = f"<p>… and {len(frame) - SHOWN} more rows</p>" if len(frame) > SHOWN else ""
    table: str = frame.head(SHOWN).to_html(index=False, escape=True, border=0, float_format="{:.3f}".format, na_rep="")
    return f"<p><strong>{escape(title)}</strong></p>{table}{more}"


@dataclass(frozen=True)
class MappingTable:
    """A head's salient tokens, and the targets that it promotes and suppresses for each, strongest first."""

    mapping: HeadMapping

    @property
    def rows(self) -> tuple[MappingRow, ...]:
        """One for each salient token, most salient first."""
        return self.mapping.rows

    @property
    def suppressed_rows(self) -> tuple[MappingRow, ...]:
        """The same tokens with the targets of -M."""
        return self.mapping.suppressed_rows

    @property
    def constant(self) -> ConstantPart | None:
        """What the head writes whatever token it reads; None where the mean was taken off."""
        return self.mapping.constant

    @property
    def parts(self) -> tuple[HeadPart, ...]:
        """Groups of words for which the head writes alike beside its constant part, largest share first."""
        return self.mapping.parts

    def to_dict(self) -> dict[str, Any]:
        """The place, `source`, all rows, `constant`, `parts` and `undertrained`, as `describe-head --json` has them."""
        return self.mapping.to_json()

    def to_pandas(self) -> pd.DataFrame:
        """One row a salient token: `token, salience, targets, suppressed`, targets joined by two blanks.

        Where the head was read under another reading than the truest, `same_tokens` has the targets under that.
        """
        import pandas as pd

        tokens = [{"token": visible(row.token), "salience": row.salience} for row in self.rows]
        columns = {"targets": self.rows, "suppressed": self.suppressed_rows}
        if self.mapping.same_tokens:
            columns = {"targets": self.rows, "same_tokens": self.mapping.same_tokens.rows, **columns}
        told = {name: [_targets(row) for row in rows] for name, rows in columns.items()}
        return pd.DataFrame(tokens, columns=["token", "salience"]).assign(**told)

    def _repr_html_(self) -> str:
        at = self.mapping
        return as_html(f"Head {at.layer}.{at.head} of {at.model}, read through {at.source}", self.to_pandas())


def _targets(row: MappingRow) -> str:
    return "  ".join(visible(one.token) for one in row.targets)


@dataclass(frozen=True)
class Description:
    """What a head does, in words, with how it tested; `report` has everything."""

    report: HeadReport

    @property
    def status(self) -> Status:
        """ "ok", "unclear" or "failed"."""
        return self.report.description.status

    @property
    def operation(self) -> str:
        """The short label, such as "country to capital"."""
        return self.report.description.operation

    @property
    def observed_pattern(self) -> str:
        """One sentence on what inputs are mapped to."""
        return self.report.description.observed_pattern

    @property
    def account(self) -> str:
        """What the head attends to and what it writes there, in a sentence or two."""
        return self.report.account

    @property
    def verdict(self) -> Verdict:
        """Of the test on new pairs: "supported", "weak", "contradicted" or "not testable"."""
        return self.report.test.verdict

    @property
    def mapping(self) -> MappingTable:
        """The rows that it was made from."""
        return MappingTable(self.report.mapping)

    @property
    def operations(self) -> tuple[HeadOperation, ...]:
        """All that the head does, each with its own test and other names for the same (`also`); `operation` first."""
        return self.report.operations

    def tested_words(self) -> pd.DataFrame:
        """Some of the new words by which it was tested: `token, said, holds, targets`, targets joined by two blanks."""
        import pandas as pd

        rows = [
            (visible(one.row.token), visible(one.wanted), one.hit, _targets(one.row))
            for one in self.report.test.tested_rows
        ]
        return pd.DataFrame(rows, columns=["token", "said", "holds", "targets"])

    def to_dict(self) -> dict[str, Any]:
        """What `describe-head --json` prints."""
        return self.report.to_json()

    def to_pandas(self) -> pd.DataFrame:
        """The rows that it was made from, as `MappingTable.to_pandas`."""
        return self.mapping.to_pandas()

    def __str__(self) -> str:
        at, said = self.report.mapping, self.report.description
        return f"{at.layer}.{at.head} {said.status}: {said.operation} ({self.verdict}). {said.observed_pattern}"

    def _repr_html_(self) -> str:
        at, said, test = self.report.mapping, self.report.description, self.report.test
        row = {
            "status": said.status,
            "operation": said.operation,
            "pattern": said.observed_pattern or said.reason,
            "test": test.verdict,
            "φ of new pairs": test.pairs.score if test.pairs else None,
            "percentile": test.pairs.percentile if test.pairs else None,
        }
        return as_html(f"Head {at.layer}.{at.head} of {at.model}, said by {said.describer}", [row])


@dataclass(frozen=True)
class RelationTable:
    """Operations scored on every head; `scores` has the tensors (layers, heads)."""

    scores: ModelScores

    def to_dict(self) -> dict[str, Any]:
        """The table as `map-relations --json` prints it, without the findings."""
        return scores_to_json(self.scores)

    def to_pandas(self) -> pd.DataFrame:
        """One row an operation and head: `relation, category, layer, head, score, suppression, n_pairs, k`.

        Operations with too few pairs have none.
        """
        import pandas as pd

        columns = ["relation", "category", "layer", "head", "score", "suppression", "n_pairs", "k"]
        rows = [
            (one.name, one.category, layer, head, float(one.score[layer, head]), float(one.suppression[layer, head]),
             one.n_used, one.k)
            for one in self.scores.scored
            if one.score is not None and one.suppression is not None
            for layer in range(self.scores.n_layers)
            for head in range(self.scores.n_heads)
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def best(self, n: int = 3) -> pd.DataFrame:
        """The `n` heads of each operation that promote it most, strongest first."""
        ranked = self.to_pandas().sort_values("score", ascending=False, kind="stable")
        return (
            ranked.groupby("relation", sort=False).head(n).sort_values(["relation", "score"], ascending=[True, False])
        )

    def _repr_html_(self) -> str:
        few = f"; too few pairs: {', '.join(one.name for one in self.scores.too_few)}" if self.scores.too_few else ""
        title = f"{len(self.scores.scored)} operations on {self.scores.model}, reading {self.scores.reading}{few}"
        return as_html(title, self.best())


@dataclass(frozen=True)
class LabelledHeads:
    """Heads of a run with their descriptions, in order of layer and head."""

    run_id: int
    heads: tuple[StoredHead, ...]

    @classmethod
    def of_run(cls, database: Engine, run_id: int, keys: Collection[HeadKey]) -> LabelledHeads:
        """Those of `keys` that are done. Raises UnknownRun."""
        wanted = set(keys)
        return cls(run_id, tuple(one for one in stored_heads(database, run_id) if (one.layer, one.head) in wanted))

    def to_dict(self) -> dict[str, Any]:
        """`run, heads`; each head as a line of `label-heads --export FILE.jsonl`."""
        return {"run": self.run_id, "heads": [one.to_json() for one in self.heads]}

    def to_pandas(self) -> pd.DataFrame:
        """One row a head: `layer, head, status, operation, category, verdict, score, percentile, pattern`."""
        import pandas as pd

        return pd.DataFrame([_labelled_row(one) for one in self.heads])

    def _repr_html_(self) -> str:
        named = sum(one.status == "ok" for one in self.heads)
        return as_html(f"Run {self.run_id}: {named} of {len(self.heads)} heads named", self.to_pandas())


def _labelled_row(head: StoredHead) -> dict[str, Any]:
    pairs = head.test.pairs if head.test else None
    return {
        **{name: getattr(head, name) for name in ("layer", "head", "status", "operation", "category")},
        "verdict": head.test.verdict if head.test else None,
        "score": pairs.score if pairs else None,
        "percentile": pairs.percentile if pairs else None,
        "pattern": head.observed_pattern or head.reason,
    }
