"""What a language model may look up about the head while it thinks: rows, scores of pairs, heads alike.

Tokens come back quoted and escaped like those of the prompt. Whatever source it asks for is remembered as seen and
never judges its description. Sources of held-out rows are refused: dropping them from the held-out rows instead would
let a describer choose its own judges.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from agent.checks.new_pairs import held_out_sources
from agent.checks.pair_scorer import PairScorer
from agent.checks.trials import score_each
from agent.describers.asking.prompting import as_data, row_line
from agent.llm.protocol import Message, Tool
from agent.pipeline.asking.neighbours import Neighbours
from agent.words.spelled_pairs import single_token, spelled_pairs
from agent.words.spelling import core
from maps_engine.relations.thresholds import DEFAULT_K
from maps_engine.results import HeadMapping

MAX_TOKENS: Final = 8
MAX_TOOL_PAIRS: Final = 16
MAX_TEXT: Final = 40
KEPT_BACK: Final = "kept back for the test"
KEPT_OF: Final = 8  # one word in so many is refused besides: a refusal then does not tell which words are salient
_SOURCE: Final = re.compile(r'("(?:[^"\\]|\\.)*") (?:->|:)')


class TokensAsked(BaseModel):
    """Arguments of `rows_of_tokens`."""

    model_config = ConfigDict(extra="forbid")

    tokens: list[Annotated[str, Field(max_length=MAX_TEXT)]] = Field(
        min_length=1, max_length=MAX_TOKENS, description="Single words, such as France"
    )


class WordPair(BaseModel):
    """One source and the target that it should map to."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=MAX_TEXT)
    target: str = Field(max_length=MAX_TEXT)


class PairsAsked(BaseModel):
    """Arguments of `score_pairs`."""

    model_config = ConfigDict(extra="forbid")

    pairs: list[WordPair] = Field(min_length=1, max_length=MAX_TOOL_PAIRS)
    exact: bool = Field(default=False, description="true where spaces and capital letters count")


class NothingAsked(BaseModel):
    """Arguments of `similar_heads`: none."""

    model_config = ConfigDict(extra="forbid")


@dataclass
class HeadTools:
    """The tools of one head, and which sources they showed."""

    mapping: HeadMapping
    scorer: PairScorer
    neighbours: Neighbours
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._held_out = held_out_sources(self.mapping)
        self._vocabulary = self.scorer.maps.checkpoint.vocabulary

    def tools(self) -> tuple[Tool, ...]:
        """All three, for `LanguageModel.ask`."""
        return (
            Tool("rows_of_tokens", "What this head promotes for given tokens.", TokensAsked, self.rows_of_tokens),
            Tool("score_pairs", "How well given pairs fit this head, and other heads.", PairsAsked, self.score_pairs),
            Tool("similar_heads", "Heads of this layer with alike mappings.", NothingAsked, self.similar_heads),
        )

    def rows_of_tokens(self, asked: TokensAsked) -> str:
        """The strongest targets of each token; `"token": reason` for those that cannot be shown."""
        lines: list[str] = []
        ids: list[int] = []
        for token in dict.fromkeys(asked.tokens):
            found = self._id_of(token)
            if self._is_kept_back(token):
                lines.append(f"{_quoted(token)}: {KEPT_BACK}")
            elif found is None:
                lines.append(f"{_quoted(token)}: not a single token of this model")
            else:
                ids.append(found)
        rows = self.scorer.rows_of(self.mapping, list(dict.fromkeys(ids)), targets=DEFAULT_K)
        self._saw(row.token for row in rows)
        return "\n".join([*map(row_line, rows), *lines])

    def score_pairs(self, asked: PairsAsked) -> str:
        """Hits among the pairs, this head's percentile among all heads, and what could not be scored."""
        wanted = [(pair.source, pair.target) for pair in asked.pairs]
        allowed = [pair for pair in wanted if not self._is_kept_back(pair[0])]
        refused = [f"{_quoted(s)}: {KEPT_BACK}" for s, _ in wanted if self._is_kept_back(s)]
        spelled = spelled_pairs(allowed, self._vocabulary, exact=asked.exact)
        pairs = spelled.pairs
        if not pairs.sources:
            return "\n".join(["None of these pairs is made of single tokens.", *refused])
        test, hits = score_each(pairs, self.mapping, self.scorer)
        texts = [self._vocabulary.text(s) for s in pairs.sources]
        self._saw(texts)
        first = (
            f"{sum(hits)} of {len(hits)} targets are among the top {pairs.k} of this head; "
            f"higher than {test.percentile:.0f} % of the other heads (their mean {test.others_mean:.2f})"
        )
        each = [f"{as_data(text)}: {'hit' if hit else 'miss'}" for text, hit in zip(texts, hits, strict=True)]
        return "\n".join([f"{first}{spelled.told_dropped}", *each, *refused])

    def similar_heads(self, _: NothingAsked) -> str:
        """The nearest heads of the layer with a few of their rows, held-out sources left out."""
        found = self.neighbours.of(self.mapping)
        lines = []
        for one in found:
            rows = [row for row in one.rows if core(row.token) not in self._held_out]
            self._saw(row.token for row in rows)
            shared = ", shares the value head" if one.shares_value_head else ""
            lines.append(f"head {one.layer}.{one.head} (similarity {one.similarity:.2f}{shared})")
            lines += map(row_line, rows)
        return "\n".join(lines) or "There is no other head in this layer."

    def note(self, conversation: Iterable[Message]) -> None:
        """Count every source in the answers of tools as seen, also where a kept reply stood in for calling them."""
        answers = [message.text for message in conversation if message.tool and message.role != "assistant"]
        self._saw(source for text in answers for source in sources_in(text))

    def _is_kept_back(self, token: str) -> bool:
        return (
            core(token) in self._held_out
            or zlib.crc32(f"kept back {core(token)}".encode("utf-8", "backslashreplace")) % KEPT_OF == 0
        )

    def _saw(self, tokens: Iterable[str]) -> None:
        self.seen.update(map(core, tokens))

    def _id_of(self, text: str) -> int | None:
        spaced = text if text.startswith(" ") else f" {text}"
        for one in (spaced, text):
            found = single_token(self._vocabulary, one)
            if found is not None:
                return found
        return None


def sources_in(text: str) -> list[str]:
    """Tokens quoted before an arrow or a colon in an answer of a tool."""
    found = []
    for line in text.splitlines():
        match = _SOURCE.match(line)
        if match is None:
            continue
        try:
            found.append(str(json.loads(match[1])))
        except json.JSONDecodeError:
            continue
    return found


def _quoted(text: str) -> str:
    return as_data(text[:MAX_TEXT])
