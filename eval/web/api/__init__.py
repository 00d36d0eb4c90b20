"""The JSON API: routes, and the forms of what they answer.

May import `maps_engine`, `agent`, `eval.errors`, `eval.rating` and the rest of `eval.web`.
"""
