"""Studies out of and into the database: CSV, JSONL, Label Studio JSON.

May import `maps_engine`, `agent`, `eval.errors`, `eval.judges` and the rest of `eval.rating`.
"""
