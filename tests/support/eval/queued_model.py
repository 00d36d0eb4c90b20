"""A language model for tests that answers from a queue."""

from __future__ import annotations

import json
import threading

from pydantic import ValidationError

from agent.errors import ModelFault
from agent.llm.protocol import Reply


class QueuedModel:
    """A LanguageModel that gives what is in its queue: values to validate, or faults to raise."""

    name, settings = "openai:queued", {"temperature": 0}

    def __init__(self, *answers):
        self.answers, self.asked, self._lock = list(answers), [], threading.Lock()

    def ask(self, prompt, answer, *, system="", tools=(), max_tool_calls=4):
        with self._lock:
            self.asked.append(prompt)
            value = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(value, Exception):
            raise value
        value = value(prompt) if callable(value) else value
        try:
            return Reply(answer.model_validate(value), json.dumps(value))
        except ValidationError as error:  # as every implementation of the protocol does
            raise ModelFault("wrong form", str(error), raw=json.dumps(value)) from error
