"""A model with the shapes of Llama-3.1 8B or 70B: time and peak memory of all heads, or of question (a).

All heads: only the tensors that are needed are made (E, U, W_V, W_O, the first block's MLP and norms; 4.6 GB of
bfloat16 in sharded safetensors, in a temporary folder). --pairs: relation scores of 20 operations of 150 pairs each
under `residual`, for which whole blocks are made (16 GB). The work runs in a process of its own, whose peak is
measured.
Run: python -m tests.benchmarks.bench_large_model [--pairs] [--source embedding] [--layers N] [--shapes 70b]
     [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,  # what residual reads first
}
LARGER = CONFIG | {  # Llama-3.1 70B
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
LAYERS_A_SHARD = 8
OPERATIONS, PAIRS_EACH = 20, 150  # about the paper's 20 operations, which have some 2,500 different sources
FAST = "cuda" if torch.cuda.is_available() else "cpu"


def normal(*size: int) -> torch.Tensor:
    """Random bfloat16, made in pieces so that this process stays small too."""
    made = torch.empty(size, dtype=torch.bfloat16)
    for part in made.split(8192):
        part.copy_(torch.randn(part.shape, device=FAST) * 0.02)
    return made


def make_checkpoint(folder: Path, config: dict[str, object], *, whole: bool = False) -> None:
    """Shards with an index, a config and a word-level tokenizer; all of every block if `whole`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    d, v, ff = (int(str(config[k])) for k in ("hidden_size", "vocab_size", "intermediate_size"))
    layers = int(str(config["num_hidden_layers"]))
    group = int(str(config["num_attention_heads"])) // int(str(config["num_key_value_heads"]))
    index: dict[str, str] = {}

    def shard(name: str, tensors: dict[str, torch.Tensor]) -> None:
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, name))

    ones = torch.ones(d).bfloat16()
    shard("model-e.safetensors", {"model.embed_tokens.weight": normal(v, d), "model.norm.weight": ones})
    shard("model-u.safetensors", {"lm_head.weight": normal(v, d)})
    first = {f"model.layers.0.mlp.{n}_proj.weight": normal(ff, d) for n in ("gate", "up")}
    shard("model-mlp.safetensors", first | {"model.layers.0.mlp.down_proj.weight": normal(d, ff)})
    for start in range(0, layers, LAYERS_A_SHARD):
        tensors = {}
        for i in range(start, min(layers, start + LAYERS_A_SHARD)):
            at = f"model.layers.{i}."
            tensors[f"{at}self_attn.v_proj.weight"] = normal(d // group, d)
            tensors[f"{at}self_attn.o_proj.weight"] = normal(d, d)
            if whole:
                tensors |= {f"{at}self_attn.q_proj.weight": normal(d, d)}
                tensors |= {f"{at}self_attn.k_proj.weight": normal(d // group, d)}
            if whole and i:
                tensors |= {f"{at}mlp.{name}_proj.weight": normal(ff, d) for name in ("gate", "up")}
                tensors |= {f"{at}mlp.down_proj.weight": normal(d, ff)}
            for norm in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"{at}{norm}.weight"] = ones.clone()
        shard(f"model-{start:02d}.safetensors", tensors)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    Tokenizer(WordLevel({f"w{i}": i for i in range(v)}, unk_token="w0")).save(str(folder / "tokenizer.json"))


def map_all(folder: str, source: str, layers: int, device: str) -> None:
    """In the child: map; one line of JSON."""
    from maps_engine.engine import MapsEngine
    from maps_engine.results import EngineSettings

    engine = MapsEngine.open(folder, settings=EngineSettings(source=source), device=device)
    started, processor = time.perf_counter(), time.process_time()
    heads = 0
    for mapping in engine.map_heads(range(layers)):
        heads += 1
        assert len(mapping.rows) == 30
        if mapping.head == 0:
            sys.stderr.write(f"layer {mapping.layer} after {time.perf_counter() - started:.0f} s\n")
    scan = engine.at(engine.settings.source).low_precision
    result = {
        "heads": heads,
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else 0.0,
        "widened_lists": scan.widened_lists if scan else None,
        "widened_rows": scan.widened_rows if scan else None,
    }
    print(json.dumps(result))  # noqa: T201


def score_all(folder: str, layers: int, device: str) -> None:
    """In the child: phi of all heads for operations of random one-token pairs; one line of JSON."""
    from maps_engine.engine import MapsEngine
    from maps_engine.ov.pair_scores import PairSet
    from maps_engine.results import EngineSettings

    engine = MapsEngine.open(folder, settings=EngineSettings(source="residual"), device=device)
    order = torch.randperm(engine.shape.vocab_size, generator=torch.Generator().manual_seed(0)).tolist()
    pairs = [(order[2 * i], order[2 * i + 1]) for i in range(OPERATIONS * PAIRS_EACH)]
    parts = [pairs[i : i + PAIRS_EACH] for i in range(0, len(pairs), PAIRS_EACH)]
    sets = [PairSet(tuple(s for s, _ in part), tuple((t,) for _, t in part), 10) for part in parts]
    started, processor = time.perf_counter(), time.process_time()

    def tell(layer: int) -> None:
        sys.stderr.write(f"layer {layer} after {time.perf_counter() - started:.0f} s\n")

    scores = engine.score_pairs(sets, source="residual", layers=range(layers), progress=tell)
    result = {
        "heads": scores[0].score.numel(),
        "operations": len(scores),
        "sources": len(pairs),
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - processor,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else 0.0,
    }
    print(json.dumps(result))  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="embedding")
    parser.add_argument("--pairs", action="store_true", help="relation scores under residual instead of mappings")
    parser.add_argument("--layers", type=int, help="how many layers to map; all unless given")
    parser.add_argument("--shapes", choices=("8b", "70b"), default="8b", help="of Llama-3.1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", help="folder of the checkpoint; made there unless it exists")
    parser.add_argument("--child", metavar="FOLDER")
    options = parser.parse_args()
    if options.child:
        if options.pairs:
            score_all(options.child, options.layers, options.device)
        else:
            map_all(options.child, options.source, options.layers, options.device)
        return
    config = dict(LARGER if options.shapes == "70b" else CONFIG)
    layers = options.layers or int(str(config["num_hidden_layers"]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.keep or temporary)
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make_checkpoint(folder, config, whole=options.pairs)
        command = [sys.executable, "-m", "tests.benchmarks.bench_large_model", "--child", str(folder)]
        command += ["--source", options.source, "--layers", str(layers), "--device", options.device]
        command += ["--pairs"] if options.pairs else []
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    for name, value in found.items():
        print(f"{name:20s} {value if isinstance(value, int) or value is None else round(value, 2)}")  # noqa: T201


if __name__ == "__main__":
    main()
