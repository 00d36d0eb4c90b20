"""What can be set about language models: limits, prices, replies kept. Keys come from the environment alone.

Light to import: the command lines read their defaults here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maps_engine.errors import UserMistake

Mode = Literal["auto", "tools", "json_schema", "json_object", "text"]
MODES: tuple[Mode, ...] = ("auto", "tools", "json_schema", "json_object", "text")
MAX_TOKENS = 1200
TIMEOUT = 120.0  # a server of one's own may need that long for a long reply
MAX_REVISIONS = 2  # of one description
NAMED_PARTS = 4  # of a head, the largest, that a language model is asked to name
Price = tuple[float, float]  # of a million tokens read, and written


@dataclass(frozen=True)
class ModelOptions:
    """How a language model is asked. None means no limit."""

    base_url: str | None = None  # of `openai:`; else OPENAI_BASE_URL
    mode: Mode = "auto"  # the strictest form of request to use; auto probes
    device: str = "auto"  # of `local:`
    temperature: float = 0.0
    max_tokens: int = MAX_TOKENS  # of one reply
    timeout: float = TIMEOUT  # seconds for one reply
    retries: int = 4  # of one request, after faults that pass
    retry_seconds: float = 300.0  # for one request with all its retries
    tool_calls: int | None = None  # most uses of tools in one question; None: as many as are offered, none of `local:`
    repairs: int = 1  # turns that show the model what is wrong with its answer
    in_flight: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_budget: int | None = None
    money_budget: float | None = None
    price: Price | None = None
    use_cache: bool = True
    cache_folder: Path | None = None


def parse_price(text: str | None) -> Price | None:
    """`2.5,10`: the price of a million tokens read, and written. Raises UserMistake."""
    if text is None or not text.strip():
        return None
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserMistake("not a price", got=text, expected="two numbers such as 2.5,10") from error
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise UserMistake("a price cannot be negative or endless", got=text, expected="two numbers such as 2.5,10")
    return read, written


def cache_wanted(no_cache: bool) -> bool:
    """Whether replies are kept: not with --no-cache, nor with HEADSCRIBE_NO_REPLY_CACHE set to anything but 0."""
    return not no_cache and os.environ.get("HEADSCRIBE_NO_REPLY_CACHE", "0").lower() in ("", "0", "false", "no")


def checked(options: ModelOptions) -> ModelOptions:
    """`options`, or UserMistake naming the first that cannot be."""
    if options.mode not in MODES:
        raise UserMistake("no such form of request", got=options.mode, expected=", ".join(MODES))
    for name in ("max_tokens", "in_flight", "requests_per_minute", "tokens_per_minute", "token_budget"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserMistake(f"{name.replace('_', ' ')} must be at least 1", got=value)
    if options.tool_calls is not None and options.tool_calls < 0:
        raise UserMistake("there cannot be fewer uses of tools than none", got=options.tool_calls)
    if options.money_budget is not None and options.price is None:
        raise UserMistake("a money budget needs a price", next_step="Give --price READ,WRITTEN for a million tokens.")
    if options.tokens_per_minute is not None and options.tokens_per_minute <= options.max_tokens:
        raise UserMistake(
            "tokens per minute must be more than one reply may take",
            got=options.tokens_per_minute,
            expected=f"more than {options.max_tokens}",
        )
    return options
