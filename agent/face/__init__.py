"""The Python interface that `headscribe` gives: models, heads and their results, as a notebook meets them.

May import every room of `agent` but `commands`, and `maps_engine`. Nothing here prints.
"""
