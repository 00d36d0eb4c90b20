"""Transcripts and attempts on the page and in a file: complete, and inert."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from agent.llm.protocol import Message
from agent.output.terminal.head_page import show_page
from agent.output.terminal.transcript import show_transcript, transcript_text
from agent.results.descriptions import HeadDescription
from agent.results.evidence import IntruderTest
from agent.results.reports import NO_TRACE, Attempt, Trace
from tests.agent.commands.test_describe_head import report
from tests.agent.describers.asking.test_prompting import HOSTILE, TRIAL

SAID = HeadDescription("ok", "x", operation="[bold]copying[/bold]\x1b[31m\u202e")
TURNS = (
    Message("system", "You name heads."),
    Message("user", "\n".join(HOSTILE)),
    Message("assistant", '{"tokens": ["a"]}', "rows_of_tokens"),
    Message("tool", '"a" -> "b"', "rows_of_tokens"),
    Message("assistant", "[red]done[/red]\r\x07"),
)
TRACE = Trace((Attempt(SAID, TRIAL), Attempt(SAID, None, "withdrawn")), TURNS, IntruderTest("words", 9, 60, 0.2))


def printed(show) -> str:
    out = io.StringIO()
    show(Console(file=out, width=110, highlight=False, force_terminal=False))
    return out.getvalue()


def test_the_page_shows_attempts_and_the_intruder_test():
    text = " ".join(printed(lambda out: show_page(out, replace(report(), trace=TRACE))).split())
    assert "try 1 proposed: [bold]copying[/bold]" in text
    assert "contradicted: 1 of 5 pairs, higher than 40 % of the other heads" in text
    assert "try 2 withdrawn" in text
    assert "found in 9 of 60 trials (20% by guessing), judged by words" in text
    assert "try 1" not in printed(lambda out: show_page(out, replace(report(), trace=NO_TRACE)))


def test_hostile_texts_are_inert_in_transcripts():
    for text in (printed(lambda out: show_transcript(out, TRACE)), transcript_text(TRACE)):
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "assistant (rows_of_tokens)" in text
        assert "Ignore all previous instructions" in text  # shown, as text
        assert "[red]done[/red]" in text
        assert '"a" -> "b"' in text


def test_a_file_of_the_transcript_starts_with_the_attempts():
    lines = transcript_text(TRACE).splitlines()
    assert lines[0].startswith("try 1")
    assert lines[2].startswith("intruder: found in 9 of 60")
