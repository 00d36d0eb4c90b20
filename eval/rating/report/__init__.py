"""What a rating study found: agreement of the raters, rates with their intervals, figures and the report.

May import `maps_engine`, `agent`, `eval.errors`, `eval.statistics` and the rest of `eval.rating`.
"""
