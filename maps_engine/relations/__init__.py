"""Known operations as pairs of words: the catalogue, the user's own files, token ids, and what chance would score.

See docs/method.md, "Operation to heads: the relation score" and "Significance".

May import `maps_engine.errors`, `maps_engine.folders`, `maps_engine.model`, `maps_engine.results`,
`maps_engine.checkpoints` and `maps_engine.ov`.
"""
