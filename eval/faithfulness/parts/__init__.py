"""Does taking one part out of a head take its operation away, and leave the head's other operations?

See docs/method.md, "A head in parts".
May import `maps_engine`, `agent`, `eval.results_folder`, `eval.statistics` and the rest of `eval.faithfulness`.
"""
