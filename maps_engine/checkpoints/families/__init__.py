"""Model families as data: where their tensors lie, how a block computes, which keys of config.json are understood.

One record a family, all read by the same code; a key that is not understood is refused, never guessed.

May import `maps_engine.errors` and `maps_engine.model`.
"""
