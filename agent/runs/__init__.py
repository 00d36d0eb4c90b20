"""Runs in the database: tables and migrations, claims on heads, results, and the one reader of described heads.

Imports `agent.results`, `agent.words`, `agent.llm` and below; nothing of `agent.pipeline` and `agent.output`.
"""
