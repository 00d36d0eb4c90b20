"""What heads attend to, from the weights: queries and keys of words, in texts made of words alone.

`readings.read_attention` gives the readings of all heads, layer by layer; see docs/method.md, "What a head attends
to". `composition.read_composition` says which earlier heads feed a head; see "What feeds a head" there.

May import `maps_engine.errors`, `maps_engine.model`, `maps_engine.results` and `maps_engine.ordinary_words`.
"""
