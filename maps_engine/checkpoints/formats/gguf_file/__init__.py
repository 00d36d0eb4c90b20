"""GGUF files, seen as transformers' checkpoints: header, configuration, tensors in transformers' layout, tokenizer.

May import `maps_engine.errors`, `maps_engine.folders`, `maps_engine.checkpoints.families`,
`maps_engine.checkpoints.fingerprint` and `maps_engine.checkpoints.formats`.
"""
