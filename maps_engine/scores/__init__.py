"""Operations scored on all heads of a model: the table, its JSON form, and what can be read from it.

See docs/method.md, "Operation to heads: the relation score" and "Suppression".

May import every room of `maps_engine`.
"""
