"""The questions that descriptions are scored by: rows, intruders, targets, pairs to come up with.

May import `maps_engine`, `agent`, `eval.statistics`, `eval.judges` and the rest of `eval.scoring`.
"""
