"""Few-shot prompts written for this project, and the pairs that they may be asked with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Final

from eval.faithfulness.running.pair_choice import spread
from eval.faithfulness.running.templates import MARK, Prompt, PromptMaker
from maps_engine.errors import UserMistake
from maps_engine.model import Vocabulary
from maps_engine.relations.encoding import encode_relation
from maps_engine.relations.format import Relation

ANSWER: Final = "<Y>"


@dataclass(frozen=True)
class FewShot:
    """Examples of one operation. `form` is one line of the prompt; words stand in it with their leading space."""

    relation: str
    form: str
    shots: tuple[tuple[str, str], ...]

    @property
    def template(self) -> str:
        """The whole prompt, the last line open at the answer; the source's place is marked."""
        lines = [self.form.replace(MARK, f" {s}").replace(ANSWER, f" {t}") for s, t in self.shots]
        return "\n".join([*lines, self.form.partition(ANSWER)[0]])


@dataclass(frozen=True)
class Question:
    """A prompt and the tokens that count as right."""

    prompt: Prompt
    accepted: tuple[int, ...]


@cache
def few_shots() -> dict[str, FewShot]:
    """The prompts by operation, in the order of the file."""
    rows = json.loads((files("eval.faithfulness.running") / "prompts.json").read_text("utf-8"))
    return {
        row["relation"]: FewShot(row["relation"], row["form"], tuple((s, t) for s, t in row["shots"])) for row in rows
    }


def prompts_for(names: Sequence[str] | None) -> list[FewShot]:
    """The prompts of `names`, or all. Raises UserMistake for an operation without one."""
    known = few_shots()
    if names is None:
        return list(known.values())
    absent = [name for name in names if name not in known]
    if absent:
        raise UserMistake(
            "no few-shot prompt for this operation", got=", ".join(absent), expected=f"one of {', '.join(known)}"
        )
    return [known[name] for name in names]


def questions(
    shot: FewShot, relation: Relation, vocabulary: Vocabulary, maker: PromptMaker, *, max_pairs: int | None
) -> list[Question]:
    """A question for every pair of single tokens whose source is in no example of the prompt, at most `max_pairs`."""
    shown = {word.lower() for pair in shot.shots for word in pair}
    kept = [(s, targets) for s, targets in relation.pairs if s.lower() not in shown]
    encoded = encode_relation(replace(relation, pairs=tuple(kept)), vocabulary)
    rows = spread(encoded.n_used, max_pairs)
    return [Question(maker.make(shot.template, (encoded.source_ids[i],)), encoded.target_ids[i]) for i in rows]
