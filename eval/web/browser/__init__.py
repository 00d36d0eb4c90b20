"""The head browser: models, grids of heads, the page of one head, search.

May import `maps_engine`, `agent`, `eval.errors`, `eval.rating`, `eval.scoring` and the rest of `eval.web`.
"""
