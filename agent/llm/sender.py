"""One request to one endpoint: its turn within the limits, retries after faults that pass, its tokens counted.

The openai client's own retries (`max_retries`) failed 29 of 64 cases of test_faults.py when they were tried: they pass
the limits by and are not counted, each thread waits alone, their total time has no bound, a quota that is used up is
tried again, and a body that is no completion is not. They also serve the openai client only. LangChain's `with_retry`
on our `faults` failed four: it heeds no Retry-After, bounds no total time and names no question in the log.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.errors import ModelDown, ModelFault
from agent.llm.chat import ChatEndpoint, ChatRequest, Completion, FormRefused
from agent.llm.faults import Fault, fault_of
from agent.llm.limits import RunLimits
from agent.llm.options import ModelOptions
from agent.llm.token_usage import NO_USAGE, Usage, count
from maps_engine.errors import HeadscribeError

log = logging.getLogger("headscribe.llm")

FIRST_WAIT = 1.0  # seconds; doubles with every try
LONGEST_WAIT = 30.0  # seconds, where the endpoint asks for no other


@dataclass
class Tally:
    """What one question took so far."""

    about: str = ""
    usage: Usage = NO_USAGE
    requests: int = 0


@dataclass
class Sender:
    """Shared by all threads that ask one model."""

    name: str
    endpoint: ChatEndpoint
    limits: RunLimits
    options: ModelOptions
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    _down: ModelDown | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def send(self, request: ChatRequest, tally: Tally) -> Completion:
        """The reply; every request made for it is counted in `tally`.

        Raises FormRefused, ModelFault, ModelDown, BudgetSpent.
        """
        spent, tries = 0.0, 0
        while True:
            found, seconds = self._once(request, tally)
            if isinstance(found, Completion):
                return found
            tries += 1
            wait = self._wait(found, tries)
            spent += seconds + wait
            if not found.passes or tries > self.options.retries or spent > self.options.retry_seconds:
                self._give_up(found, tries)
            log.info("%s: %s; try %d in %.1f s", tally.about or self.name, self._clean(found.reason), tries + 1, wait)
            if found.wait is None:
                self.sleep(wait)
            else:
                self.limits.pause(wait)  # the other threads would only be sent away too

    def _once(self, request: ChatRequest, tally: Tally) -> tuple[Completion | Fault, float]:
        """What came of one request, and the seconds it took once it had its turn."""
        with self.limits.request(request.characters, request.max_tokens, self.options.price) as ticket:
            if self._down is not None:
                raise self._down
            tally.requests += 1
            started = time.monotonic()
            try:
                found: Completion | Fault = self._without_keys(self.endpoint.complete(request))
            except (FormRefused, HeadscribeError):
                raise
            except Exception as error:
                fault = fault_of(error, timeout=self.options.timeout)
                if fault is None:
                    raise
                found = self._judged(fault)
            if isinstance(found, Completion):
                _add(tally, ticket.settle(found.usage, characters=len(found.text)))
            elif found.may_have_cost:
                _add(tally, ticket.settle(None))
            return found, time.monotonic() - started

    def _judged(self, fault: Fault) -> Fault:
        """`fault`, or one to try again without a parameter that is not taken. Raises FormRefused."""
        if fault.parameter and self.endpoint.without_parameter(fault.parameter):
            return Fault(fault.kind, fault.reason, passes=True, wait=0.0)
        if fault.refuses_form:
            raise FormRefused(self._clean(fault.reason))
        return fault

    def _wait(self, fault: Fault, tries: int) -> float:
        """What the endpoint asks for, else up to 1, 2, 4 … s by chance ("full jitter")."""
        if fault.wait is not None:
            return fault.wait
        return self.chance() * min(FIRST_WAIT * 2.0 ** (tries - 1), LONGEST_WAIT)

    def _give_up(self, fault: Fault, tries: int) -> None:
        reason = self._clean(fault.reason) + (f" ({tries} requests)" if tries > 1 else "")
        if not fault.ends_run:
            raise ModelFault(fault.kind, reason)
        with self._lock:
            self._down = self._down or ModelDown(f"{self.name} cannot be used", reason, kind=fault.kind)
        raise self._down

    def _without_keys(self, completion: Completion) -> Completion:
        """Some proxies echo what they were sent."""
        text, refusal = self._clean(completion.text), self._clean(completion.refusal)
        return replace(completion, text=text, refusal=refusal)

    def _clean(self, text: str) -> str:
        return self.endpoint.without_secrets(text)


def _add(tally: Tally, usage: Usage) -> None:
    tally.usage += usage
    count(usage)
