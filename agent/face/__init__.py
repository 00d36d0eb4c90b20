"""The Python interface that `headscribe` gives: models, heads and their results, as a notebook meets them.

Nothing here prints, but for a progress bar on a terminal. See docs/design.md, "Public face".

May import `maps_engine`, `agent.results`, `agent.llm`, `agent.runs`, `agent.pipeline` and `agent.output`.
"""
