"""Pages and progress on a terminal. What comes from models and files is made inert before it is shown.

May import `maps_engine`, `agent.errors`, `agent.llm`, `agent.results`, `agent.runs`, `agent.pipeline` and the rest of
`agent.output`.
"""
