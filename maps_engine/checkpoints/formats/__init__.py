"""File formats of checkpoints: safetensors, GGUF, PyTorch files, and the tokenizers that come with them.

Every format becomes an `OpenedFiles`: settings, tensors under the names of transformers, a tokenizer, a content hash.

May import `maps_engine.errors`, `maps_engine.folders`, `maps_engine.model`, `maps_engine.checkpoints.families` and
`maps_engine.checkpoints.fingerprint`.
"""
