"""Tokens' texts, kinds and ids, on real tokenizers of each kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from maps_engine.checkpoints.token_spelling import is_placeholder, spelled_text, token_bytes, visible
from maps_engine.checkpoints.vocabulary import TokenizerVocabulary
from maps_engine.errors import BrokenCheckpoint
from tests.support.tiny_models import VOCABULARY, tiny_tokenizer

_CORPUS = [" Paris London naïve 東京 Müller the cat", "Paris the cat's house, 12 cats"] * 3


def byte_level(*, prefix_space: bool = False, size: int = 400) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|reserved_special_token_0|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    return tokenizer


def sentencepiece(style: str) -> Tokenizer:
    """Llama 2's spelling: bytes first, ▁ for a space; the dummy prefix by normalizer or by pre-tokenizer."""
    words = ["▁", "▁Paris", "▁Paris▁", "Paris", "▁the", "the", "▁cat", "cat", "s", "▁▁", "a", "b", "é", "▁a"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocabulary = [(piece, -float(place)) for place, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    if style == "normalizer":
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    elif style == "lone prepend":
        tokenizer.normalizer = normalizers.Prepend("▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    elif style == "no prefix":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<unk>", "<s>", "</s>")])
    return tokenizer


STYLES = ["normalizer", "lone prepend", "always", "first", "never", "no prefix"]


def vocabulary(tokenizer: Tokenizer, **options) -> TokenizerVocabulary:
    return TokenizerVocabulary(tokenizer, **{"n_rows": tokenizer.get_vocab_size(), **options})


class TestByteLevel:
    @pytest.fixture(params=[False, True])
    def words(self, request) -> TokenizerVocabulary:
        """With and without the tokenizer's own prefix space, which must make no difference."""
        return vocabulary(byte_level(prefix_space=request.param))

    def test_leading_space_is_part_of_the_text(self, words):
        with_space, without = words.single_id("Paris"), words.single_id("Paris", leading_space=False)
        assert words.text(with_space) == " Paris"
        assert words.text(without) == "Paris"
        assert with_space != without

    def test_encode_takes_text_as_it_stands(self, words):
        assert words.encode(" Paris") == [words.single_id("Paris")]
        assert words.encode("Paris") == [words.single_id("Paris", leading_space=False)]
        assert words.encode("") == []

    def test_letters_beyond_ascii(self, words):
        texts = {words.text(i) for i in range(len(words))}
        assert {" naïve", " Müller", " 東京"} <= texts

    def test_incomplete_bytes_are_marked(self, words):
        (first, *_) = vocabulary(byte_level(size=258)).encode("東")
        plain = vocabulary(byte_level(size=258))
        assert plain.text(first) == "<0xE6>"
        assert plain.kind(first) == "byte"

    def test_kinds(self, words):
        assert words.kind(0) == "special"
        assert words.kind(1) == "unused"  # reserved, though flagged special
        assert words.kind(words.single_id("the")) == "normal"
        assert words.kind(len(words)) == words.kind(-1) == words.kind(10**9) == "unused"

    def test_special_tokens_in_text_are_text(self, words):
        ids = words.encode("<|endoftext|>")
        assert 0 not in ids
        assert "".join(words.text(i) for i in ids) == "<|endoftext|>"
        assert words.single_id("<|endoftext|>", leading_space=False) is None

    def test_words_of_several_tokens_have_no_single_id(self, words):
        assert words.single_id("Constantinople") is None
        assert words.single_id("") is None or words.text(words.single_id("")) == " "

    def test_text_without_a_token(self, words):
        assert words.text(len(words) + 3) == ""

    @given(text=st.text(max_size=30))
    def test_texts_of_ids_give_the_text_back(self, text):
        words = vocabulary(_SHARED)
        joined = "".join(words.text(i) for i in words.encode(text))
        if "\ud800" <= max(text, default="") <= "\udfff" or "<0x" in joined:
            return  # lone surrogates are replaced; split characters come as marks
        assert joined == text

    @given(text=st.text(st.characters(categories=["Cs", "Lu", "Cc"]), max_size=10))
    def test_lone_surrogates_do_not_fail(self, text):
        vocabulary(_SHARED).encode(text)


_SHARED = byte_level()


class TestSentencePiece:
    @pytest.fixture(params=STYLES)
    def words(self, request) -> TokenizerVocabulary:
        return vocabulary(sentencepiece(request.param))

    def test_word_after_a_space_is_one_token(self, words):
        """The tokenizer's dummy prefix must not add a second space."""
        found = words.single_id("Paris")
        assert words.text(found) == " Paris"
        assert words.encode(" Paris") == [found]

    def test_word_without_a_space(self, words):
        found = words.single_id("Paris", leading_space=False)
        assert words.text(found) == "Paris"
        assert words.encode("Paris") == [found]

    def test_two_words(self, words):
        assert [words.text(i) for i in words.encode(" the cat")] == [" the", " cat"]

    def test_bytes(self, words):
        newline = words.encode("\n")
        assert [words.text(i) for i in newline] == ["<0x0A>"]
        assert words.kind(newline[0]) == "byte"
        assert [words.text(i) for i in words.encode("東")] == ["<0xE6>", "<0x9D>", "<0xB1>"]

    def test_specials(self, words):
        assert [words.kind(i) for i in range(3)] == ["special"] * 3
        assert words.text(1) == "<s>"


class TestRows:
    def test_padding_rows_are_unused(self):
        words = TokenizerVocabulary(tiny_tokenizer(), n_rows=VOCABULARY + 8)
        assert len(words) == VOCABULARY
        assert words.kind(VOCABULARY + 7) == "unused"

    @pytest.mark.parametrize("rows", [0, 1, VOCABULARY - 1, VOCABULARY + 1025, 10**6])
    def test_rows_that_cannot_belong(self, rows):
        with pytest.raises(BrokenCheckpoint, match=f"{rows} embedding rows for {VOCABULARY} token ids"):
            TokenizerVocabulary(tiny_tokenizer(), n_rows=rows)

    def test_added_tokens_may_lack_rows(self):
        """Gemma 3 1B: the tokenizer knows a picture token that the text model has no row for."""
        tokenizer = tiny_tokenizer()
        tokenizer.add_special_tokens(["<image_soft_token>"])
        words = TokenizerVocabulary(tokenizer, n_rows=VOCABULARY)
        assert len(words) == VOCABULARY
        assert words.kind(VOCABULARY) == "unused"

    def test_holes_between_ids(self):
        tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 7, "[UNK]": 3}, unk_token="[UNK]"))
        words = TokenizerVocabulary(tokenizer, n_rows=8)
        assert len(words) == 8
        assert [words.kind(i) for i in (0, 1, 7)] == ["normal", "unused", "normal"]
        assert words.text(7) == "b"
        assert words.single_id("zzz", leading_space=False) is None  # the unknown token spells something else

    def test_special_ids_from_elsewhere(self):
        assert TokenizerVocabulary(tiny_tokenizer(), n_rows=VOCABULARY, special=[5]).kind(5) == "special"

    def test_truncation_and_padding_of_the_file_are_ignored(self):
        tokenizer = tiny_tokenizer()
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(length=9)
        words = TokenizerVocabulary(tokenizer, n_rows=VOCABULARY)
        assert len(words.encode(" the red house on the hill")) not in (2, 9)


class TestSpelling:
    def test_alphabet_is_that_of_the_tokenizers_library(self):
        alphabet = set(pre_tokenizers.ByteLevel.alphabet())
        assert {token_bytes(letter) for letter in alphabet} == {bytes([byte]) for byte in range(256)}
        assert token_bytes("Ġthe") == b" the"
        assert token_bytes("東") is None

    def test_text_outside_the_alphabet_stays(self):
        assert spelled_text("東", "byte-level") == "東"
        assert spelled_text("##ing", "plain") == "##ing"

    @pytest.mark.parametrize(
        "token",
        [
            "<unused12>",
            "[unused1]",
            "<|reserved_special_token_7|>",
            "[PAD151]",
            "<pad_3>",
            "<|dummy_85|>",
            "<extra_id_0>",
            "<|placeholder1|>",
            "<SPECIAL_25>",
            "[control_768]",
            ">>UNUSED_1<<",
            "madeupword0002",
            "<reserved_4>",
        ],
    )
    def test_placeholders(self, token):
        assert is_placeholder(token)

    @pytest.mark.parametrize("token", ["<pad>", "unused", "Ġpad", "extra", "12", "<s>", "reserved", "<|im_end|>"])
    def test_not_placeholders(self, token):
        assert not is_placeholder(token)


class TestVisible:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (" Paris", "␣Paris"),
            ("   ", "␣␣␣"),
            ("a b ", "a b␣"),
            ("\n", "⏎"),
            ("\r\n\t", "␍⏎⇥"),
            ("\x00", "␀"),
            ("\x1b[31mred", "␛[31mred"),
            ("\u202eabc", "<U+202E>abc"),
            ("\ud800", "<U+D800>"),
            ("\u200b\ufeff", "<U+200B><U+FEFF>"),
            ("\u00a0x", "<U+00A0>x"),
            ("\u0301", "◌\u0301"),
            ("\u2028", "<U+2028>"),
            ("\ue000", "<U+E000>"),
            ("\x9b", "<U+009B>"),
            ("東京 Müller", "東京 Müller"),
            ("", ""),
            ("<script>", "<script>"),
        ],
    )
    def test_examples(self, text, shown):
        assert visible(text) == shown

    @given(st.text())
    def test_nothing_that_moves_a_cursor_is_left(self, text):
        shown = visible(text)
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in shown)
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
        assert shown == shown.strip()
        shown.encode("utf-8")
