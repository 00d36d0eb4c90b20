"""From evidence to a description: by rules over the words (lexical), or by asking a language model.

See docs/method.md, "Head to operation: salient operations" and "Calibration".

May import `maps_engine`, `prompts`, `agent.errors`, `agent.words`, `agent.llm` and `agent.results`.
"""
