"""Which of a head's tested descriptions is recorded: the first that its test supports, and none that it contradicts.

Claims that were held against a control come before those for which there is none, such as "words to nationalities".

Of several that were tested the best was picked by its test, so it has to be supported: on SmolLM2 a tenth of the weak
names of the lexical describer was true of the running model (docs/method.md, "Testing a description").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from agent.results.descriptions import HeadDescription
from agent.results.outcomes import TestResult, Verdict
from agent.results.reports import Attempt, Trial

_BETTER: Final[dict[Verdict, int]] = {"supported": 0, "weak": 1, "not testable": 2, "contradicted": 3}

Tested = tuple[HeadDescription, TestResult]


def chosen(tested: Sequence[Tested], *, ranked: bool) -> tuple[Tested, tuple[Attempt, ...]]:
    """The description to record with its test, and all that were tested, in order, where there was more than one.

    tested: best first; `ranked` where a describer gave all that it would say, and tests choose. Where all are
    contradicted (of ranked ones: where none is supported, or not testable) the head is "unclear", and the test of the
    best stands beside it.
    """
    best = min(range(len(tested)), key=lambda i: (_place(*tested[i]), not controlled(tested[i][1]), i))
    said, test = tested[best]
    if said.status == "ok" and test.verdict == "contradicted":
        said = withdrawn(said, "its test contradicts it")
    elif said.status == "ok" and ranked and test.verdict == "weak":
        said = withdrawn(said, "its test does not support it")
    decision = "kept" if said.status == "ok" else "withdrawn"
    attempts = tuple(attempt_of(*one, decision if i == best else "proposed") for i, one in enumerate(tested))
    return (said, test), attempts if len(attempts) > 1 else ()


def chosen_of_head(tested: Sequence[Tested]) -> tuple[Tested, tuple[Attempt, ...]]:
    """The same of ranked descriptions: of the whole head, else of the largest of its parts that has a supported one."""
    whole = [one for one in tested if one[0].part is None]
    of_parts = sorted((one for one in tested if one[0].part is not None), key=lambda one: one[0].part or 0)
    named = next((one for one in of_parts if one[1].verdict == "supported"), None)
    best, attempts = chosen(whole or of_parts[:1], ranked=True)
    if not of_parts:
        return best, attempts
    if best[1].verdict == "supported" or named is None:
        named, kept = best, "kept" if best[0].status == "ok" else "withdrawn"
        attempts = attempts or tuple(attempt_of(*one, kept) for one in whole if one[0].status == "ok")
    else:
        attempts = tuple(attempt_of(*one, "withdrawn") for one in whole if one[0].status == "ok")
    return named, (*attempts, *(attempt_of(*one, "kept" if one is named else "proposed") for one in of_parts))


def _place(said: HeadDescription, test: TestResult) -> float:
    """Its verdict's; a known operation that was scored, and has no pairs left for a test, comes before weak ones."""
    scored = bool(said.claims) and said.claims[0].kind == "scored"
    return 0.5 if scored and test.verdict == "not testable" else _BETTER[test.verdict]


def controlled(test: TestResult) -> bool:
    """Whether a control was scored: a claim of any words to one class of targets has none, and says less."""
    return test.pairs is None or test.pairs.shuffled is not None


def withdrawn(said: HeadDescription, why: str) -> HeadDescription:
    """The description as "unclear", with what it said in the reason."""
    return replace(
        said,
        status="unclear",
        operation="unclear",
        observed_pattern="Unclear.",
        confidence=0.0,
        reason=f"withdrawn: {why}; it said {said.operation!r}",
    )


def attempt_of(said: HeadDescription, test: TestResult, decision: str) -> Attempt:
    """A tested description as a step on the way to the recorded one."""
    return Attempt(said, Trial(test.verdict, test.reason, test.pairs), decision)
