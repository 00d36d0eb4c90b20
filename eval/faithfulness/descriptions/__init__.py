"""Are the names that a stored run gave its heads true of the running model?

See docs/method.md, "The checks against the running model". May import `maps_engine`, `agent`, `eval.errors`,
`eval.statistics` and the rest of `eval.faithfulness`.
"""
