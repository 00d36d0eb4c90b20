"""Questions, answers and models for the tests of `agent.llm`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field

from agent.llm.models import AskedModel, open_language_model
from agent.llm.options import ModelOptions
from agent.llm.protocol import Tool
from tests.support.agent.fault_server import Act, Endpoint

KEY = "sk-not-a-real-key"
GOOD = {"operation": "country to capital", "confidence": 8}


class Named(BaseModel):
    """What the tests ask for."""

    operation: str = Field(min_length=1, max_length=60)
    confidence: int = Field(ge=0, le=10)


class Tokens(BaseModel):
    """Arguments of the tests' tool."""

    tokens: list[str] = Field(max_length=4)


def good(**changes: Any) -> Act:
    return Act(json.dumps(GOOD | changes))


def rows_tool(seen: list[list[str]]) -> Tool:
    def run(arguments: Tokens) -> str:
        seen.append(arguments.tokens)
        return f"{len(arguments.tokens)} rows"

    return Tool("rows", "Rows of tokens.", Tokens, run)


def model_at(server: Endpoint, *, sleep: Callable[[float], None] = lambda _: None, **options: Any) -> AskedModel:
    """`openai:m` at the endpoint of the test; asked by schema and without a cache where nothing else is said."""
    chosen: dict[str, Any] = {"mode": "json_schema", "use_cache": False, "timeout": 5.0} | options
    model = open_language_model("openai:m", options=ModelOptions(base_url=server.url, **chosen), sleep=sleep)
    assert isinstance(model, AskedModel)
    return model
