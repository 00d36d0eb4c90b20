"""The residual stream of a model, block by block, by transformers' own modules: what a head really reads.

`residual_stream.ResidualStream` is what the rest uses; see docs/method.md, "What a head really reads".

May import `maps_engine.errors`, `maps_engine.model` and, of `maps_engine.checkpoints`, what reads tensors.
"""
