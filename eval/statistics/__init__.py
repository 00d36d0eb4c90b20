"""Numbers with their intervals: the bootstrap, Wilson and Clopper-Pearson, correlations, agreement between raters.

Shared by scoring, faithfulness and rating. May import nothing else of ours.
"""
