"""Do heads move the model's own final logits as their scores from weights say? See docs/method.md, "Final logits".

May import `maps_engine`, `agent`, `eval.errors`, `eval.statistics` and the rest of `eval.faithfulness`.
"""
