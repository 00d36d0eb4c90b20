"""Do heads of the running model look where their weights say?

See docs/method.md, "What a head attends to".
May import `maps_engine`, `agent.pipeline`, `agent.words`, `eval.results_folder`, `eval.statistics` and the rest of
`eval.faithfulness`.
"""
