"""A language model fed from a queue, and a workbench on a tiny model, for the tests of revisions."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from agent.describers.asking.answers import PairsAnswer
from agent.describers.language_model import LanguageModelDescriber
from agent.llm.protocol import Message, Reply, Tool
from agent.llm.token_usage import Usage, count
from agent.pipeline.workbench import Workbench
from agent.words.spelling import core
from maps_engine.ov.source_maps import SourceEngine
from maps_engine.results import HeadMapping
from tests.support.agent.bulk_runs import letter_bench, tiny_request
from tests.support.tiny_models import tiny_model

WORDY_ROWS = 400
DEPTH = 60  # targets among which a wrong one is not

Given = dict[str, Any] | Exception | Callable[["Asked"], dict[str, Any]]


class Asked:
    """One question as the model got it; `call` uses a tool as a model would."""

    def __init__(self, prompt: str, answer: type[BaseModel], system: str, tools: Sequence[Tool]) -> None:
        self.prompt, self.answer, self.system = prompt, answer, system
        self.tools = {tool.name: tool for tool in tools}
        self.turns: list[Message] = []

    def call(self, name: str, **arguments: Any) -> str:
        tool = self.tools[name]
        result = tool.run(tool.arguments.model_validate(arguments))
        self.turns += [Message("assistant", json.dumps(arguments), name), Message("tool", result, name)]
        return result


class QueueModel:
    """Answers from a queue, one list for descriptions and revisions, one rule for pairs, one for parts."""

    name = "fake:queue"

    def __init__(self, answers: Sequence[Given], pairs: Given | None = None, parts: Given | None = None) -> None:
        self.settings = {"model": "queue"}
        self.asked: list[Asked] = []
        self._answers, self._pairs, self._parts, self._lock = list(answers), pairs, parts, threading.Lock()

    def ask(self, prompt, answer, *, system="", tools=(), max_tool_calls=4, about=""):
        asked = Asked(prompt, answer, system, tools)
        with self._lock:
            self.asked.append(asked)
            given = self._given(answer)
        if isinstance(given, Exception):
            raise given
        value = given(asked) if callable(given) else given
        count(Usage(10, 2))
        raw = json.dumps(value)
        turns = (Message("user", prompt), *asked.turns, Message("assistant", raw))
        return Reply(answer.model_validate(value), raw, turns, Usage(10, 2), 1)

    def _given(self, answer: type[BaseModel]) -> Given | None:
        if answer is PairsAnswer:
            return self._pairs
        if answer.__name__.startswith("PartsAnswer"):
            return self._parts or no_part
        return self._answers.pop(0)


def no_part(asked: Asked) -> dict[str, Any]:
    """No pattern in any part."""
    n = int(asked.answer.__name__.removeprefix("PartsAnswer"))
    return {"parts": [part_said(place, "unclear") for place in range(1, n + 1)]}


def part_said(part: int, operation: str, same_as: int = 0) -> dict[str, Any]:
    """An answer on one part, by its number from 1."""
    told = {"observed_pattern": f"Maps {operation}.", "operation": operation, "confidence": 6}
    return {"part": part, "same_as": same_as} | told


def said(operation: str = "red to blue", **changes: Any) -> dict[str, Any]:
    """An answer to `describe`."""
    values = {
        "reasoning": "Because.",
        "input_strings": "Words.",
        "observed_pattern": f"Maps {operation}.",
        "operation": operation,
        "confidence": 7,
    }
    return values | changes


def revised(decision: str, operation: str = "green to grey", **changes: Any) -> dict[str, Any]:
    """An answer to `revise`."""
    return said(operation, decision=decision, **changes)


class PairMaker:
    """Pairs that this head really makes (`true`), or that it makes least (`false`), by the label asked for."""

    def __init__(self, bench: Workbench, mapping: HeadMapping, *, true: Sequence[str] = ()) -> None:
        self._true, self._vocabulary = set(true), bench.maps.checkpoint.vocabulary
        words = [i for i in range(len(self._vocabulary)) if self._is_word(i)]
        settings = replace(mapping.settings, source=bench.scorer.source, targets=DEPTH)  # as pairs are scored
        deep = SourceEngine(bench.maps.checkpoint, settings)
        rows = deep.rows_of(mapping.layer, mapping.head, words)
        usable = [[t.token for t in row.targets[:8] if self._is_word(t.token_id)] for row in rows]
        self.best = {row.token: found[0] for row, found in zip(rows, usable, strict=True) if found}
        self.words = [self._vocabulary.text(i) for i in words]
        self._own = {row.token: {core(t.token) for t in row.targets} for row in rows}

    def __call__(self, asked: Asked) -> dict[str, Any]:
        true = any(json.dumps(label) in asked.prompt.split("\n")[0] for label in self._true)
        told = asked.prompt.partition("Do not use any of these inputs: ")[2].partition("\n")[0]
        excluded = {json.loads(one) for one in re.findall(r'"(?:[^"\\]|\\.)*"', told)}
        made = self.best if true else self._wrong()
        new = [(s.strip(), t.strip()) for s, t in made.items() if core(s) not in excluded]
        return {"pairs": [{"source": s, "target": t} for s, t in new]}

    def _wrong(self) -> dict[str, str]:
        return {w: next(t for t in self.words if core(t) not in self._own[w]) for w in self.words}

    def _is_word(self, token_id: int) -> bool:
        text = self._vocabulary.text(token_id)
        return text.startswith(" ") and core(text).isalpha() and self._vocabulary.kind(token_id) == "normal"


def wordy_model(folder: Path, family: str = "llama", **settings: int) -> Path:
    """A tiny model with 90 short words as tokens, enough for trial and judging pairs."""
    if not (folder / "config.json").exists():
        tiny_model(family, folder, vocab_size=WORDY_ROWS, **settings)
        chance = random.Random(0)
        syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
        words = sorted({"".join(chance.sample(syllables, 2)) for _ in range(90)})
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=WORDY_ROWS - 8, special_tokens=["<|endoftext|>"], show_progress=False, min_frequency=1
        )
        tokenizer.train_from_iterator([" " + " ".join(words)] * 3, trainer)
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def agent_bench(
    folder: Path, model: QueueModel, *, max_revisions: int = 2, most_parts: int = 0, **changes: Any
) -> Workbench:
    """A workbench on a tiny model whose describer asks `model`."""
    describer = LanguageModelDescriber(model, max_revisions=max_revisions, most_parts=most_parts)
    return letter_bench(tiny_request(wordy_model(folder), describer=model.name, **changes), describer)
