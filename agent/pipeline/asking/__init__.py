"""A language model asked about one head: the conversation, the tools that it may use, heads alike.

May import `maps_engine`, `agent.words`, `agent.llm`, `agent.results`, `agent.operations`, `agent.describers`,
`agent.checks` and `agent.pipeline.workbench`.
"""
