"""Numbers with their intervals: the bootstrap, Wilson and Clopper-Pearson, correlations, agreement between raters.

Shared by scoring, faithfulness and rating; imports nothing else of `eval`, of `agent` or of `maps_engine`.
"""
