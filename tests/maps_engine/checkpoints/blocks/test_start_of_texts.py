"""What stands before every token that a model reads."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, Tokenizer, processors

from maps_engine.checkpoints.blocks.start_of_texts import start_of_texts
from tests.support.tiny_models import tiny_tokenizer


def with_special(*tokens: str) -> Tokenizer:
    """A tokenizer whose first special token is `<|endoftext|>`, id 0, and then these."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in tokens])
    return tokenizer


def test_what_the_tokenizer_puts_before_a_text_comes_first():
    tokenizer = with_special("<s>", "</s>")
    begin, end = (tokenizer.token_to_id(one) for one in ("<s>", "</s>"))
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", begin), ("</s>", end)])
    tokenizer.post_processor = template
    assert start_of_texts(tokenizer, [0]) == (begin,)


def test_then_what_the_configuration_calls_the_beginning():
    tokenizer = with_special("<bos>")
    assert start_of_texts(tokenizer, [tokenizer.token_to_id("<bos>"), 0]) == (tokenizer.token_to_id("<bos>"),)


@pytest.mark.parametrize("marker", ["<|im_start|>", "<|eot_id|>", "<start_of_turn>", "[INST]", "<|user|>"])
def test_a_marker_of_chats_is_never_taken(marker):
    """SmolLM2-Instruct: the configuration names `<|im_start|>`, training texts begin with `<|endoftext|>`."""
    tokenizer = with_special(marker)
    assert start_of_texts(tokenizer, [tokenizer.token_to_id(marker)]) == (0,)


def test_a_model_without_any_such_token_has_no_start():
    tokenizer = with_special()
    named = tokenizer.to_str().replace("<|endoftext|>", "<|filler|>")
    assert start_of_texts(Tokenizer.from_str(named), []) == ()
