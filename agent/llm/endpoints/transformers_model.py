"""A model in this process by transformers, its output held to the schema by llguidance.

Each step masks the tokens that the schema's grammar does not allow, so a reply that ends is valid by construction;
one that runs out of tokens is cut off like any other. Small models fall into loops, which cost minutes until a field
is full: what a reply has written once, REPEATED tokens long, it cannot write again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from agent.errors import ExtraMissing, ModelFault
from agent.llm.chat import ChatRequest, Completion, FormRefused, Turn
from agent.llm.token_usage import Usage
from maps_engine.checkpoints.fingerprint import fingerprint
from maps_engine.checkpoints.formats.gguf_file.header import read_gguf_header
from maps_engine.checkpoints.formats.gguf_file.tokenizer import gguf_tokenizer
from maps_engine.checkpoints.locate import Located
from maps_engine.checkpoints.opening import open_checkpoint
from maps_engine.errors import Failure, UnsupportedModel

REPEATED: Final = 16  # tokens: a dozen words; keys and short values of JSON recur in fewer
NO_TEMPLATE: Final = "{role}: {text}\n"  # for models without a chat template


def require_llguidance() -> None:
    """Raises ExtraMissing where the package that holds replies to a schema is not installed."""
    if find_spec("llguidance") is None:
        raise ExtraMissing(
            "local models need a package that is not installed", next_step="pip install 'headscribe[local]'"
        )


class TransformersModel:
    """Weights, tokenizer and the tokenizer's tables for grammars, in memory: bfloat16 on a GPU, else float32.

    Raises ExtraMissing without llguidance, UnsupportedModel, Failure.
    """

    def __init__(self, located: Located, device: torch.device) -> None:
        require_llguidance()
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        self.model, self.tokenizer = _load(located, device, dtype)
        self.device = device
        self.window = int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)
        self._grammar_tokens: Any = None

    @torch.inference_mode()
    def reply(self, request: ChatRequest, temperature: float) -> Completion:
        """The text of one reply. Raises ModelFault where the question leaves no room for an answer."""
        ids = self._prompt_ids(request.turns)
        room = self.window - len(ids)
        if room < 1:
            raise ModelFault("too long", f"the question takes {len(ids)} tokens; the model reads {self.window}")
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}
        out = self.model.generate(
            input_ids=torch.tensor([ids], device=self.device),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long, device=self.device),
            max_new_tokens=min(request.max_tokens, room),
            pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
            logits_processor=[self._mask(request.schema)] if request.form == "json_schema" else [],
            **sampling,
        )
        new = out[0, len(ids) :].tolist()
        finished = bool(new) and new[-1] in self._ends()
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        return Completion(text, finish="stop" if finished else "length", usage=Usage(len(ids), len(new)))

    def _prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        if not self.tokenizer.chat_template:
            text = "".join(NO_TEMPLATE.format(role=turn.role, text=turn.text) for turn in turns) + "assistant: "
            return list(self.tokenizer(text)["input_ids"])
        shown = [{"role": turn.role, "content": turn.text} for turn in turns]
        text = self.tokenizer.apply_chat_template(shown, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _ends(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        return {one for one in (*listed, self.tokenizer.eos_token_id) if one is not None}

    def _mask(self, schema: Mapping[str, Any] | None) -> _SchemaMask:
        import llguidance
        import llguidance.hf

        if self._grammar_tokens is None:
            rows = int(self.model.config.vocab_size)
            self._grammar_tokens = llguidance.hf.from_tokenizer(self.tokenizer, n_vocab=rows)
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides={"whitespace_flexible": False}
        )
        matcher = llguidance.LLMatcher(self._grammar_tokens, grammar)
        if matcher.is_error():
            raise FormRefused(f"no grammar for this schema: {matcher.get_error()}")
        return _SchemaMask(matcher)


class _SchemaMask:
    """A logits processor for one sequence: the scores (1, vocabulary) of tokens that cannot follow are -inf.

    These are all that the grammar forbids, and those that would repeat what was written, unless no others are left.
    """

    def __init__(self, matcher: Any) -> None:
        from transformers import NoRepeatNGramLogitsProcessor

        self._matcher = matcher
        self._question = self._seen = 0  # tokens of the question, and tokens that were consumed
        self._without_repeats = NoRepeatNGramLogitsProcessor(REPEATED)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        if self._seen:
            self._matcher.consume_tokens(ids[0, self._seen :].tolist())
        self._seen = ids.shape[1]
        self._question = self._question or self._seen
        if self._matcher.is_error():
            raise ModelFault("server", f"the grammar was left: {self._matcher.get_error()}")
        bits = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        allowed = (bits.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8) & 1).flatten()[: scores.shape[-1]].bool()
        allowed = allowed.to(scores.device)
        new = self._without_repeats(ids[:, self._question :], scores)[0, : len(allowed)] > float("-inf")
        allowed = allowed & new if bool((allowed & new).any()) else allowed
        out = torch.full_like(scores, float("-inf"))
        out[0, : len(allowed)][allowed] = scores[0, : len(allowed)][allowed]
        return out


def _load(located: Located, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    shared: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        if located.kind == "gguf":
            return _load_gguf(located.path, device, dtype)
        tokenizer = AutoTokenizer.from_pretrained(located.path, **shared)
        model = AutoModelForCausalLM.from_pretrained(located.path, dtype=dtype, **shared)
    except (ImportError, KeyError, NotImplementedError, TypeError) as error:
        raise UnsupportedModel("transformers cannot run this checkpoint", got=error) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise Failure("transformers could not open this checkpoint", got=error) from error
    return model.eval().to(device), tokenizer


def _load_gguf(path: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """By the engine's own reader, which takes a tenth of the time of transformers' for the same model."""
    from transformers import PreTrainedTokenizerFast

    header = read_gguf_header(path)
    metadata = header.metadata
    model: Any = open_checkpoint(str(path), device=str(device)).weights.running(dtype=dtype, attention="sdpa")
    tokens, names = metadata["tokenizer.ggml.tokens"], {"eos_token": "eos", "bos_token": "bos", "pad_token": "padding"}
    ends = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=gguf_tokenizer(header, fingerprint([path])),
        **{name: tokens[i] for name, i in ends.items() if i is not None},
    )
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    model.generation_config.eos_token_id = ends["eos_token"]
    return model.eval(), tokenizer
