"""The report of the checks against the running model: stored results read, figures, text.

May import `maps_engine`, `agent`, `eval.errors`, `eval.results_folder` and the rest of `eval.faithfulness`.
"""
