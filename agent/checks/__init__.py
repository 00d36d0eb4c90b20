"""Is a description true? New pairs that it predicts, other heads as a null, and a row that does not belong.

See docs/method.md, "Testing a description".

May import `maps_engine`, `prompts`, `agent.errors`, `agent.words`, `agent.llm`, `agent.results`, `agent.operations` and
`agent.describers`.
"""
