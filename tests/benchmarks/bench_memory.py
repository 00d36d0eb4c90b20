"""Peak memory of one head: never above twice (E + U + one layer's tensors), plus one chunk.

A checkpoint is made of random bfloat16 tensors (Llama shapes, untied), the head is mapped in a process of its own, and
that process's growth above its resident size after imports is compared with the sizes of the tensors in float32.
Run by `make bench`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 12,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 65536,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
CHUNK_BYTES = 4 * (16384 * 90 + 4096 * (2 * 5632 + 3 * 2048))  # a block of rows of M, and one of X with its MLP


def make_checkpoint(folder: Path) -> None:
    """A folder of safetensors with a word-level tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    d, v, ff, layers = (CONFIG[k] for k in ("hidden_size", "vocab_size", "intermediate_size", "num_hidden_layers"))
    kv = d // 4

    def normal(*size: int) -> torch.Tensor:
        return (torch.randn(*size) * 0.02).bfloat16()

    tensors = {"model.embed_tokens.weight": normal(v, d), "lm_head.weight": normal(v, d)}
    tensors["model.norm.weight"] = torch.ones(d).bfloat16()
    for i in range(layers):
        at = f"model.layers.{i}."
        for name, size in (("q", (d, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, d))):
            tensors[f"{at}self_attn.{name}_proj.weight"] = normal(*size)
        for name, size in (("gate", (ff, d)), ("up", (ff, d)), ("down", (d, ff))):
            tensors[f"{at}mlp.{name}_proj.weight"] = normal(*size)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = torch.ones(d).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    Tokenizer(WordLevel({f"w{i}": i for i in range(v)}, unk_token="w0")).save(str(folder / "tokenizer.json"))


def map_one_head(folder: str, source: str) -> None:
    """In the child: print the growth of peak memory over what imports took, in bytes."""
    from maps_engine.engine import MapsEngine
    from maps_engine.results import EngineSettings

    torch.ones(64, 64) @ torch.ones(64, 64)  # the arithmetic library's own buffers
    before = peak_bytes()
    MapsEngine.open(folder, settings=EngineSettings(source=source), device="cpu").map_head(5, 7)
    print(peak_bytes() - before)  # noqa: T201


def peak_bytes() -> int:
    """VmHWM of this process; ru_maxrss would carry over the parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "SOURCE"))
    options = parser.parse_args()
    if options.child:
        map_one_head(*options.child)
        return
    d, v, ff = CONFIG["hidden_size"], CONFIG["vocab_size"], CONFIG["intermediate_size"]
    tensors = 4 * (2 * v * d + 2 * d * d + 2 * (d // 4) * d + 3 * d * ff)
    bound = 2 * tensors + CHUNK_BYTES
    print(f"E + U + one layer in float32: {tensors / 2**20:.0f} MiB; bound {bound / 2**20:.0f} MiB")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder))
        for source in ("embedding", "first-mlp"):
            command = [sys.executable, "-m", "tests.benchmarks.bench_memory", "--child", folder, source]
            grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            verdict = "within" if grown <= bound else "ABOVE"
            print(f"{source:10s} peak growth {grown / 2**20:.0f} MiB: {verdict} the bound")  # noqa: T201


if __name__ == "__main__":
    main()
