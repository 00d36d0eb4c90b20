"""Limits of one run, shared by its threads: requests in flight and per minute, tokens per minute, budgets.

A request waits for its turn, reserves what it may take at most, and settles what it took. The reservation of its
prompt is a number of tokens per character that follows what the endpoint reports.

LangChain's `InMemoryRateLimiter` counts requests per second and nothing else: no requests in flight, no tokens, no
budgets, no pause for all threads. As a token bucket it also lets a burst pass after a rest and refills it meanwhile:
with three requests allowed per window it let five through. `max_concurrency` bounds the calls of one `batch` only.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.errors import BudgetSpent
from agent.llm.options import ModelOptions, Price
from agent.llm.token_usage import NO_USAGE, Usage

FIRST_GUESS = 0.4  # tokens per character: more than any language's text has on common tokenizers
MARGIN = 1.2
MINUTE = 60.0


@dataclass(eq=False)
class Ticket:
    """One request's reservation in tokens; `settle` says what it really took."""

    read: int
    written: int
    characters: int
    price: Price | None
    started: float
    per_character: float
    used: Usage = NO_USAGE

    def settle(self, usage: Usage | None, *, characters: int = 0) -> Usage:
        """Count what the endpoint reported, or else an estimate, marked as such, from the number of characters."""
        written = min(int(characters * self.per_character) + 1, self.written) if characters else 0
        self.used = Usage(self.read, written, estimated=1) if usage is None else usage
        return self.used

    @property
    def reserved(self) -> Usage:
        """The most that it may take."""
        return Usage(self.read, self.written)


@dataclass
class RunLimits:
    """Shared by all models and threads of one run. `None` is no limit; `window` is the minute, in seconds."""

    in_flight: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_budget: int | None = None
    money_budget: float | None = None
    window: float = MINUTE
    spent: Usage = NO_USAGE
    money: float = 0.0
    requests: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _open: list[Ticket] = field(default_factory=list, repr=False)
    _recent: deque[Ticket] = field(default_factory=deque, repr=False)
    _paused_until: float = 0.0
    _per_character: float = FIRST_GUESS

    @classmethod
    def of(cls, options: ModelOptions) -> RunLimits:
        """The limits that the options name."""
        return cls(
            in_flight=options.in_flight,
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            token_budget=options.token_budget,
            money_budget=options.money_budget,
        )

    @contextmanager
    def request(self, characters: int, max_tokens: int, price: Price | None = None) -> Iterator[Ticket]:
        """A place for one request, once all limits allow it. Raises BudgetSpent."""
        ticket = self._admit(characters, max_tokens, price)
        try:
            yield ticket
        finally:
            with self._changed:
                self._open.remove(ticket)
                self._learn(ticket)
                self.spent += ticket.used
                self.money += ticket.used.cost(price) or 0.0
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """No thread sends a request for so many seconds: what a Retry-After asks for."""
        with self._changed:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def _admit(self, characters: int, max_tokens: int, price: Price | None) -> Ticket:
        with self._changed:
            while True:
                each = self._per_character
                ticket = Ticket(int(characters * each) + 1, max_tokens, characters, price, time.monotonic(), each)
                self._check_budgets(ticket)
                delay = self._delay(ticket)
                if delay <= 0:
                    self._open.append(ticket)
                    self._recent.append(ticket)
                    self.requests += 1
                    return ticket
                self._changed.wait(None if delay == float("inf") else delay)

    def _delay(self, ticket: Ticket) -> float:
        """Seconds to wait; infinite until somebody else is done; zero to go now."""
        now = time.monotonic()
        while self._recent and now - self._recent[0].started >= self.window:
            self._recent.popleft()
        if len(self._open) >= self.in_flight or self._reserved_fills_budget(ticket):
            return float("inf")
        delay = self._paused_until - now
        if self.requests_per_minute is not None and len(self._recent) >= self.requests_per_minute:
            delay = max(delay, self._recent[0].started + self.window - now)
        if self.tokens_per_minute is not None and self._recent:
            taken = sum(self._tokens(one) for one in self._recent)
            if taken + ticket.reserved.tokens > self.tokens_per_minute:
                delay = max(delay, self._recent[0].started + self.window - now)
        return delay

    def _tokens(self, ticket: Ticket) -> int:
        return (ticket.reserved if ticket in self._open else ticket.used).tokens

    def _check_budgets(self, ticket: Ticket) -> None:
        """BudgetSpent when this request could pass a budget even if nothing else were in flight."""
        tokens, money = ticket.reserved.tokens, ticket.reserved.cost(ticket.price) or 0.0
        if self.token_budget is not None and self.spent.tokens + tokens > self.token_budget:
            raise BudgetSpent(
                "the token budget is used up",
                got=f"{self.spent.tokens} tokens taken, up to {tokens} for the next request",
                expected=f"at most {self.token_budget}",
                next_step="Raise --token-budget and run the same command again; what is done is kept.",
            )
        if self.money_budget is not None and self.money + money > self.money_budget:
            raise BudgetSpent(
                "the money budget is used up",
                got=f"{self.money:.4f} spent, up to {money:.4f} for the next request",
                expected=f"at most {self.money_budget:g}",
                next_step="Raise --budget and run the same command again; what is done is kept.",
            )

    def _reserved_fills_budget(self, ticket: Ticket) -> bool:
        """Whether the budget may not last for this one until some in flight are settled."""
        waiting = [*self._open, ticket]
        tokens = sum(one.reserved.tokens for one in waiting)
        money = sum(one.reserved.cost(one.price) or 0.0 for one in waiting)
        over_tokens = self.token_budget is not None and self.spent.tokens + tokens > self.token_budget
        return over_tokens or (self.money_budget is not None and self.money + money > self.money_budget)

    def _learn(self, ticket: Ticket) -> None:
        if ticket.used.read and not ticket.used.estimated and ticket.characters:
            seen = MARGIN * ticket.used.read / ticket.characters
            self._per_character += (seen - self._per_character) / 2
