"""`local:`: a model in this process whose output is held to the schema; a tiny random one and the built-in one."""

import json

import pytest
from pydantic import BaseModel, Field

pytest.importorskip("llguidance")

from gguf import GGUFWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agent.describers.language_model import LanguageModelDescriber
from agent.errors import ModelFault
from agent.llm.endpoints import local_endpoint, transformers_model
from agent.llm.endpoints.transformers_model import REPEATED
from agent.llm.models import open_language_model
from agent.llm.options import ModelOptions
from maps_engine.errors import UnsupportedModel, UserMistake
from tests.support.agent.llm_parts import Named, rows_tool


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama over all bytes: without a grammar it writes noise."""
    import torch

    place = tmp_path_factory.mktemp("local") / "tiny"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(["a"], trainers.BpeTrainer(special_tokens=["<eos>"], initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, eos_token_id=0, bos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def local(folder, **options):
    chosen = {"max_tokens": 200, "use_cache": False, "repairs": 0, "device": "cpu"} | options
    return open_language_model(f"local:{folder}", options=ModelOptions(**chosen))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_noise_is_held_to_the_schema(folder, temperature):
    model = local(folder, temperature=temperature)
    for i in range(3):
        reply = model.ask(f"What {i}?", Named, system="Be brief.")
        assert set(json.loads(reply.raw)) == {"operation", "confidence"}
        assert reply.usage.estimated == 0
        assert reply.usage.written > 10


class Long(BaseModel):
    """An answer in which a model may lose itself."""

    text: str = Field(min_length=150, max_length=300)


def longest_repeated(text: str) -> int:
    """Bytes of the longest part that stands in `text` twice; every byte is a token of the tiny model."""
    raw = text.encode()
    return max(n for n in range(len(raw)) if len({raw[i : i + n] for i in range(len(raw) - n + 1)}) < len(raw) - n + 1)


def test_a_reply_does_not_write_the_same_again_and_again(folder, monkeypatch):
    guarded = local(folder, max_tokens=1200).ask("What?", Long).answer.text
    monkeypatch.setattr(transformers_model, "REPEATED", 10**6)
    free = local(folder, max_tokens=1200).ask("What?", Long).answer.text
    assert longest_repeated(free) > 3 * REPEATED, "this model does fall into loops"
    assert longest_repeated(guarded) < REPEATED


def test_tools_go_by_steps(folder):
    seen: list[list[str]] = []
    reply = local(folder, max_tokens=400, tool_calls=9).ask("What?", Named, tools=[rows_tool(seen)], max_tool_calls=2)
    assert len(seen) == reply.requests - 1 <= 2


def test_models_that_run_here_are_offered_no_tools_unless_asked_for(folder):
    reply = local(folder, max_tokens=400).ask("What?", Named, tools=[rows_tool([])], max_tool_calls=2)
    assert reply.requests == 1
    assert not [turn for turn in reply.messages if "rows" in turn.text]


def test_how_many_uses_of_tools_are_allowed_is_part_of_a_runs_identity(folder):
    unset, none, two = (LanguageModelDescriber(local(folder, tool_calls=n)).settings for n in (None, 0, 2))
    assert unset == none
    assert two != none


def test_one_that_runs_out_of_tokens_is_cut_off(folder):
    with pytest.raises(ModelFault) as caught:
        local(folder, max_tokens=6).ask("What?", Named)
    assert caught.value.kind == "cut off"
    assert caught.value.raw.startswith('{"')


def test_a_question_too_long(folder):
    with pytest.raises(ModelFault) as caught:
        local(folder).ask("word " * 3000, Named)
    assert caught.value.kind == "too long"


def test_replies_are_kept_by_content_not_by_place(folder, tmp_path):
    import shutil

    first = local(folder, use_cache=True).ask("What?", Named)
    moved = tmp_path / "tiny"
    shutil.copytree(folder, moved)
    again = local(moved, use_cache=True).ask("What?", Named)
    assert (first.requests, again.requests, again.answer) == (1, 0, first.answer)
    assert str(tmp_path) not in json.dumps(dict(local(moved).settings))


def test_what_cannot_be_opened(folder, tmp_path):
    with pytest.raises(UserMistake):
        local(tmp_path / "nowhere")
    with pytest.raises(UserMistake):
        local(folder, device="nosuch")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 50)
    with pytest.raises(UnsupportedModel, match="GGUF version"):
        local(tmp_path / "bad.gguf").ask("What?", Named)


@pytest.mark.model
def test_llama_cpp_says_what_is_too_long_and_what_it_cannot_open(tmp_path):
    pytest.importorskip("xllamacpp")
    with pytest.raises(ModelFault) as caught:
        local("smollm2-135m").ask("word " * 9000, Named)
    assert caught.value.kind == "too long"
    path = tmp_path / "nosuch.gguf"
    writer = GGUFWriter(path, "nosuch")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match=r"llama.cpp cannot run"):
        local(path).ask("What?", Named)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["llama.cpp", "transformers"])
def test_the_built_in_model_answers_by_schema(tmp_path, monkeypatch, engine):
    if engine == "transformers":
        monkeypatch.setattr(local_endpoint, "llama_version", str)
    else:
        pytest.importorskip("xllamacpp")
    model = local("smollm2-135m", cache_folder=tmp_path, use_cache=True, max_tokens=80)
    assert model.settings["engine"].startswith(engine)
    reply = model.ask("A head maps France to Paris. What does it do?", Named, system="You name operations.")
    assert 0 <= reply.answer.confidence <= 10
    assert (
        model.ask("A head maps France to Paris. What does it do?", Named, system="You name operations.").requests == 0
    )
