"""How an agent came to its description, readably: attempts with their trials, and the whole conversation.

Everything that a model or a token said is inert: no markup, no escapes, no marks that change the direction of text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from agent.llm.protocol import Message
from agent.output.console import inert
from agent.results.evidence import IntruderTest
from agent.results.reports import Attempt, Trace
from maps_engine.checkpoints.token_spelling import visible

WIDTH: Final = 110
MOST_TRIED: Final = 5  # descriptions on the page of a head
SPEAKER_STYLE: Final = {"system": "dim", "user": "cyan", "assistant": "bold", "tool": "magenta"}


def attempts_part(trace: Trace, *, told: Collection[str] = ()) -> RenderableType:
    """The lines of a head's page: the first descriptions tried, and the intruder test.

    told: operations that the page tells elsewhere with their tests.
    """
    tried = list(enumerate(trace.attempts, start=1))
    others = [(n, one) for n, one in tried if one.decision != "proposed" or one.description.operation not in told]
    lines = [_attempt_line(number, one) for number, one in others[:MOST_TRIED]]
    if len(others) > MOST_TRIED:
        lines.append(Text(f"           and {len(others) - MOST_TRIED} more", "dim"))
    if trace.intruder is not None:
        lines.append(Text.assemble(("  intruder ", "dim"), _intruder(trace.intruder)))
    return Group(*lines)


def show_transcript(out: Console, trace: Trace) -> None:
    """Print the conversation, one turn after another."""
    for message in trace.conversation:
        out.print(Text(_speaker(message), SPEAKER_STYLE.get(message.role, "")))
        for line in _wrapped(message.text):
            out.print(Text(f"  {line}"), soft_wrap=True)


def transcript_text(trace: Trace) -> str:
    """Attempts and conversation as plain text, for a file."""
    lines = [_attempt_line(n, one).plain.strip() for n, one in enumerate(trace.attempts, start=1)]
    if trace.intruder is not None:
        lines.append(f"intruder: {_intruder(trace.intruder)}")
    for message in trace.conversation:
        lines += ["", _speaker(message), *(f"  {line}" for line in _wrapped(message.text))]
    return "\n".join(lines) + "\n"


def _attempt_line(number: int, attempt: Attempt) -> Text:
    said, trial = attempt.description, attempt.trial
    line = Text.assemble((f"  try {number}    ", "dim"), attempt.decision, ": ", inert(said.operation or said.reason))
    if trial is not None and trial.pairs is not None:
        line.append(f" — {trial.verdict}: {trial.pairs.hits} of {trial.pairs.n_pairs} pairs, ")
        line.append(f"higher than {trial.pairs.percentile:.0f} % of the other heads")
    elif trial is not None:
        line.append(" — ").append_text(inert(f"{trial.verdict}: {trial.reason}"))
    return line


def _intruder(test: IntruderTest) -> str:
    return f"found in {test.found} of {test.n} trials ({test.chance:.0%} by guessing), judged by {test.judge}"


def _speaker(message: Message) -> str:
    return f"{message.role} ({visible(message.tool)})" if message.tool else message.role


def _wrapped(text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        shown = visible(line).replace("␣", " ")
        yield from textwrap.wrap(shown, WIDTH, drop_whitespace=False, replace_whitespace=False) or [""]
