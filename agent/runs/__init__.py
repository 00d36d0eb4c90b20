"""The database of runs: models, runs, heads and their results, claims of workers, migrations, relation scores.

May import `maps_engine`, `prompts`, `agent.errors`, `agent.words`, `agent.llm`, `agent.results`, `agent.operations`,
`agent.describers` and `agent.checks`.
"""
