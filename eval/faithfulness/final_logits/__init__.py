"""Do heads move the model's own final logits as their scores from weights say?

See docs/method.md, "The checks against the running model".
May import `maps_engine`, `eval.results_folder`, `eval.statistics` and the rest of `eval.faithfulness`.
"""
