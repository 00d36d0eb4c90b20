"""How a language model is asked about a head: prompts with their facts, forms of answers, and answers that are refused.

May import `maps_engine`, `prompts`, `agent.errors`, `agent.words`, `agent.llm`, `agent.results` and
`agent.describers.findings`.
"""
