"""The heads of a study: read from a run or a file of another tool, and chosen.

May import `maps_engine`, `agent` and `eval.errors`.
"""
