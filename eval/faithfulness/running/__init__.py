"""A model that really runs: forward passes with single heads read or changed, prompts, and the pairs to run.

May import `maps_engine`, `eval.errors` and the rest of `eval.faithfulness`.
"""
