"""Studies out of and into the database: CSV, JSONL, Label Studio JSON. Uses `eval.rating` and `agent.runs`."""
