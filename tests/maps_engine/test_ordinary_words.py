"""Which tokens are ordinary words: with and without spaces in front, one of each, no code, no marks."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maps_engine.engine import MapsEngine
from maps_engine.errors import UserMistake
from maps_engine.ordinary_words import ordinary_words
from maps_engine.results import EngineSettings
from tests.support.memory_model import memory_checkpoint, memory_weights

KINDS = ("normal", "special", "byte", "unused")


@dataclass(eq=False)
class Listed:
    """A vocabulary of these texts, in this order."""

    texts: tuple[str, ...]
    kinds: dict[int, str] = field(default_factory=dict)

    def __len__(self):
        return len(self.texts)

    def text(self, token_id):
        return self.texts[token_id]

    def kind(self, token_id):
        return self.kinds.get(token_id, "normal")


def words_of(*texts, at_most=None, **kinds):
    vocabulary = Listed(texts, {texts.index(text): kind for kind, found in kinds.items() for text in found})
    return [texts[i] for i in ordinary_words(vocabulary, at_most)]


def test_whole_words_begin_with_a_space_where_any_token_does():
    assert words_of("the", " the", "ing", " cat", "s", " dog") == [" the", " cat", " dog"]
    assert words_of("the", "ing", "cat") == ["the", "ing", "cat"]  # WordPiece, characters


def test_marks_and_numbers_behind_a_space_make_no_spaced_vocabulary():
    assert words_of("the", " (", " 12", "  ", " ", " a", "cat") == ["the", "cat"]


def test_of_each_word_the_first_spelling_is_taken():
    assert words_of(" the", " The", " THE", " cat", " Cat") == [" the", " cat"]
    assert words_of(" The", " the", "the") == [" The"]
    assert words_of(" Straße", " STRASSE", " strasse") == [" Straße"]
    assert words_of(" the", "7", " 7", " 8", "8") == [" the", "7", " 8"]


def test_the_first_are_taken():
    texts = [f" w{letter}" for letter in "abcdefghij"]
    for n in (1, 4, 10):
        assert words_of(*texts, at_most=n) == texts[:n]
    assert words_of(*texts, at_most=99) == texts == words_of(*texts)
    assert words_of(" wa", " WA", " wb", " wc", at_most=2) == [" wa", " wb"]


def test_ids_are_given_in_rising_order():
    vocabulary = Listed((" b", "3", " cd", " ef", " 3", " ab"))
    assert ordinary_words(vocabulary) == (1, 2, 3, 5)


@pytest.mark.parametrize("text", ["7", "12", "1984", "007", " 7", " 1984"])
def test_short_numbers_are_words(text):
    assert words_of(" the", text) == [" the", text]


@pytest.mark.parametrize("text", ["12345", "1.5", "-3", "٣", "²", "1st", "0x1", " 12345"])
def test_long_and_other_numbers_are_none(text):
    assert words_of(" the", text) == [" the"]


PIECES = (" (", "()", " snake_case", " x1", " :=", "\n", "\t", " <b", " <0xE4>", "", " ", "  the", " the ", "ing")


@pytest.mark.parametrize("text", [*PIECES, " a", " I", " don't", " e-mail", " …", " 😀", "�", " a\u202eb", "ing"])
def test_code_marks_and_pieces_are_none(text):
    assert words_of(" of", text) == [" of"]


@pytest.mark.parametrize("text", [" é", " 水", " дом", " שלום", " Straße", " こんにちは", " naïve"])
def test_words_of_other_scripts_are_words(text):
    assert words_of(" the", text) == [" the", text]
    assert words_of("the", text.strip()) == ["the", text.strip()]


def test_special_tokens_bytes_and_padding_are_never_words():
    assert words_of(" the", " end", " pad", " byte", " cat", special=[" end"], unused=[" pad"], byte=[" byte"]) == [
        " the",
        " cat",
    ]
    # one that looks like a spaced word makes no spaced vocabulary
    assert words_of("the", " end", "cat", special=[" end"]) == ["the", "cat"]


def test_nothing_ordinary_gives_nothing():
    assert words_of() == words_of("(", " ", ".") == words_of(" the", special=[" the"]) == []
    checkpoint = memory_checkpoint(memory_weights())
    engine = MapsEngine(checkpoint, EngineSettings("embedding", words=5))  # " w0", " w1": no words
    with pytest.raises(UserMistake, match="no ordinary words"):
        engine.map_head(0, 0)


TEXTS = st.one_of(
    st.text(max_size=6),
    st.from_regex(r" ?[A-Za-zäßİ]{1,4}", fullmatch=True),
    st.from_regex(r" ?[0-9]{1,6}", fullmatch=True),
    st.sampled_from((" ", "", "\ud83d", " the", " The", "İ", " i̇", "ﬁ", " FI")),
)
VOCABULARIES = st.lists(st.tuples(TEXTS, st.sampled_from((*["normal"] * 5, *KINDS))), max_size=40)


@given(VOCABULARIES, st.one_of(st.none(), st.integers(1, 45)))
@example([(" ", "normal"), ("\ud83d", "normal"), (" ﬁ", "normal"), (" fi", "normal")], None)
def test_any_vocabulary(tokens, at_most):
    vocabulary = Listed(tuple(text for text, _ in tokens), {i: kind for i, (_, kind) in enumerate(tokens)})
    found = ordinary_words(vocabulary, at_most)
    assert list(found) == sorted(set(found))
    assert len(found) <= (len(tokens) if at_most is None else at_most)
    assert all(vocabulary.kind(i) == "normal" for i in found)
    bodies = [vocabulary.text(i).removeprefix(" ") for i in found]
    assert all(body.isalpha() or (body.isascii() and body.isdigit() and len(body) <= 4) for body in bodies)
    assert len({body.casefold() for body in bodies}) == len(bodies)
    words = {vocabulary.text(i).startswith(" ") for i, body in zip(found, bodies, strict=True) if body.isalpha()}
    assert len(words) <= 1  # whole words begin with a space, or none does
    if at_most is not None:
        assert found == ordinary_words(vocabulary)[:at_most] == ordinary_words(vocabulary, len(found) or None)[:at_most]
