"""What people and programs read: pages on a terminal, HTML reports, figures, JSON lines, CSV and Parquet.

May import `maps_engine`, `prompts` and every room of `agent` but `agent.commands`: `agent.errors`, `agent.quiet`,
`agent.words`, `agent.llm`, `agent.results`, `agent.operations`, `agent.describers`, `agent.checks`, `agent.runs` and
`agent.pipeline`.
"""
