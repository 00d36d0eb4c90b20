"""Texts in which attention is measured: those of the package, files of the user, tokens that repeat."""

from __future__ import annotations

import ast
import re

import pytest
from typer.testing import CliRunner

from eval.commands.check import app
from eval.commands.check_options import MOST_OF_TEXTS
from eval.faithfulness.attention import texts
from eval.faithfulness.attention.texts import (
    LENGTH,
    MAX_TOKENS,
    Text,
    cut,
    repeated_tokens,
    shipped_texts,
    text_files,
)
from maps_engine.errors import UserMistake
from tests.support.eval.made_texts import some_texts, words
from tests.support.eval.named_runs import wordy_bench


def test_the_texts_that_come_with_the_package() -> None:
    prose, code = shipped_texts()
    assert (prose.name, code.name) == ("prose", "code")
    assert len(prose.text.split()) > 14_000
    assert re.search(r"[A-Z]\w+ [A-Z]\w+, .+ \(1[5-8]\d\d\)", prose.source)  # author, title, year
    assert not re.search(r"gutenberg|ebook|project|https?:", prose.text, re.IGNORECASE)
    assert prose.digest != code.digest
    assert len(ast.parse(code.text).body) > 20


def test_pieces_are_shared_out_evenly(tmp_path) -> None:
    checkpoint = wordy_bench(tmp_path).checkpoint
    n = LENGTH - len(checkpoint.vocabulary.start)
    texts = [Text(name, "made", words(checkpoint, k * n)) for name, k in (("long", 9), ("short", 1), ("other", 4))]
    assert [len(one.ids) for one in cut(texts, checkpoint.vocabulary, 8 * LENGTH)] == [4, 1, 3]
    assert [len(one.ids) for one in cut(texts, checkpoint.vocabulary, 100 * LENGTH)] == [9, 1, 4]
    (first, *_) = cut(texts, checkpoint.vocabulary, 3 * LENGTH)
    assert first.ids[0].tolist() == [*checkpoint.vocabulary.start, *checkpoint.vocabulary.encode(texts[0].text)[:n]]


def test_texts_that_are_too_short_and_too_few_tokens_are_refused(tmp_path) -> None:
    checkpoint = wordy_bench(tmp_path).checkpoint
    with pytest.raises(UserMistake, match="the text some is too short: got 20 tokens; expected at least 127"):
        cut([Text("some", "made", words(checkpoint, 20))], checkpoint.vocabulary, MAX_TOKENS)
    for few in (2 * LENGTH - 1, 8):
        with pytest.raises(UserMistake, match=f"too few tokens: got {few} for 2 texts; expected 128 for each text"):
            cut(some_texts(checkpoint), checkpoint.vocabulary, few)


def test_a_vocabulary_of_few_tokens_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(texts, "REPEATED", 500)
    with pytest.raises(UserMistake, match=r"too few tokens to make texts of: got .*; expected at least 500"):
        repeated_tokens(wordy_bench(tmp_path).checkpoint.vocabulary)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the text cannot be read: got "),
        (b"", "the text is empty"),
        (b" \n\t", "the text is empty"),
        (b"caf\xe9 au lait", "the text is not in UTF-8: got .*other bytes at 3"),
    ],
)
def test_files_that_are_no_text_are_refused_in_one_line(content, said, tmp_path) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, ["attention", "--text", str(path)])
    assert result.exit_code == 2
    assert re.search(said, result.output)
    assert "Give a text file with --text." in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_files_are_told_apart_by_their_names(tmp_path) -> None:
    paths = [tmp_path / name / "text.txt" for name in "ab"]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        path.write_text(f"\ufeffWords, {i}.", "utf-8")
    assert [(one.name, one.text) for one in text_files(paths)] == [
        ("text.txt", "Words, 0."),
        ("text.txt 2", "Words, 1."),
    ]


def test_the_option_names_as_many_tokens_as_the_experiment() -> None:
    assert MOST_OF_TEXTS == MAX_TOKENS
