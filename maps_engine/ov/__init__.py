"""The map M of a head: saliences of the tokens it reads, targets it writes to, ranks of entries, all heads at once.

`source_maps.SourceEngine` puts the parts together for one source representation; see docs/method.md, "The map of one
head" and "Exact shortcuts".

May import `maps_engine.errors`, `maps_engine.files`, `maps_engine.folders`, `maps_engine.model`, `maps_engine.results`,
`maps_engine.ordinary_words`, `maps_engine.undertrained` and `maps_engine.checkpoints`.
"""
