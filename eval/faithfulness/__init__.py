"""Are the scores read from weights what heads do when the model runs?

See docs/method.md, "The checks against the running model".

May import `maps_engine`, `agent`, `prompts`, `eval.errors`, `eval.results_folder`, `eval.statistics`, `eval.judges` and
`eval.rating`.
"""
