"""A head taken apart: groups of words for which it writes alike, beyond what it writes whatever it reads.

`head_parts.PartsReader` reads them, `grouping` finds the groups, `targets` what their words are mapped to; see
docs/method.md, "A head in parts".

May import `maps_engine.errors`, `maps_engine.model`, `maps_engine.results`, `maps_engine.ordinary_words`,
`maps_engine.ov` and `maps_engine.relations`.
"""
