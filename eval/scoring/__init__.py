"""Automatic scores of descriptions on tokens that the describer did not see (`headscribe score`).

See docs/method.md, "Scores of descriptions".

May import `maps_engine`, `agent`, `prompts`, `eval.errors`, `eval.results_folder`, `eval.statistics`,
`eval.judges`, `eval.rating` and `eval.faithfulness`.
"""
