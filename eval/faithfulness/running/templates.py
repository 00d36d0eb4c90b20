"""Prompts as token ids: what the model's tokenizer puts in front, the source by its own ids, the rest as text.

Prompts are put together from ids, not from texts, so that the source is exactly the tokens that the relation names and
its place is known. Nothing is added but what the tokenizer itself puts before a text (a beginning-of-text token where
the model wants one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

from maps_engine.checkpoints.formats.folder_tokenizer import folder_tokenizer
from maps_engine.checkpoints.formats.gguf_file.header import read_gguf_header
from maps_engine.checkpoints.formats.gguf_file.tokenizer import gguf_tokenizer
from maps_engine.checkpoints.locate import locate
from maps_engine.errors import UserMistake
from maps_engine.model import Checkpoint, Vocabulary

MARK = "<X>"
TEMPLATES = (  # the paper's four
    "This is a document about<X>",
    "No<X> means no",
    "The story of<X> contains",
    "When I think about<X> I think about",
)
OWN_TEMPLATES = (  # no word of the paper's, nor of the lead-ins that results are compared for: nothing is seen twice
    "Our teacher wrote down<X>",
    "Without<X> there would be",
    "Every question on<X> asks",
    "If you look for<X> you find",
)
TEMPLATE_SETS: Mapping[str, tuple[str, ...]] = {
    "paper": TEMPLATES,
    "own": OWN_TEMPLATES,
    "both": TEMPLATES + OWN_TEMPLATES,
}
# kinds of experiment that have prompts of their own or none, and no templates
OTHER_PROMPTS = ("causal", "final-logits", "null-heads", "parts", "attention")


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt; `source` is the position of the source's last token."""

    ids: tuple[int, ...]
    source: int


@dataclass(frozen=True)
class PromptMaker:
    """Makes prompts for one checkpoint. `tokenizer` still adds the special tokens that the model expects in front."""

    vocabulary: Vocabulary
    tokenizer: Tokenizer
    opening: tuple[int, ...] = ()  # ids to put first that the tokenizer does not add by itself

    @classmethod
    def for_checkpoint(cls, checkpoint: Checkpoint, *, revision: str | None = None) -> PromptMaker:
        """Reads the tokenizer anew, as the checkpoint has it."""
        located = locate(checkpoint.name, revision=revision)
        if located.kind == "folder":
            return cls(checkpoint.vocabulary, folder_tokenizer(located.path))
        header = read_gguf_header(located.path)
        wants = header.metadata.get("tokenizer.ggml.add_bos_token")
        if wants is None:  # llama.cpp's default: SentencePiece models begin with it
            wants = header.metadata.get("tokenizer.ggml.model") == "llama"
        first = header.metadata.get("tokenizer.ggml.bos_token_id")
        opening = (int(first),) if wants and first is not None else ()
        return cls(checkpoint.vocabulary, gguf_tokenizer(header, checkpoint.fingerprint), opening)

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self.tokenizer.encode("", add_special_tokens=True).ids)

    def start(self, text: str) -> tuple[int, ...]:
        """Ids of a text that begins a prompt."""
        ids = list(self.tokenizer.encode(text, add_special_tokens=True).ids)
        while ids and ids[-1] in self._added and text:
            ids.pop()  # an end-of-text token is not wanted before more text
        opening = () if tuple(ids[: len(self.opening)]) == self.opening else self.opening
        return (*opening, *ids)

    def make(self, template: str, source: Sequence[int]) -> Prompt:
        """`template` with `source` (token ids, the leading space included) in place of MARK.

        Raises UserMistake for a template without a mark, or with several.
        """
        before, mark, after = template.partition(MARK)
        if not mark or MARK in after:
            raise UserMistake("a prompt needs one place for the source", got=repr(template), expected=f"one {MARK}")
        start = self.start(before)
        rest = self.vocabulary.encode(after) if after else []
        return Prompt((*start, *source, *rest), len(start) + len(source) - 1)


def templates_text(templates: Sequence[str]) -> str:
    """For people: `own: “Our teacher wrote down X”; …`, with the name of the set where it is one of TEMPLATE_SETS."""
    names = [name for name, texts in TEMPLATE_SETS.items() if tuple(templates) == texts]
    listed = "; ".join(f"“{one.replace(MARK, ' X')}”" for one in templates)
    return ": ".join([*names, listed])


def template_hash(templates: Iterable[str]) -> str:
    """12 hex digits that change with any template."""
    return hashlib.sha256("\n".join(templates).encode()).hexdigest()[:12]
