"""Scores of descriptions as summaries, tables and a figure.

May import `maps_engine`, `agent`, `eval.results_folder`, `eval.statistics`, `eval.rating` and the rest of
`eval.scoring`.
"""
