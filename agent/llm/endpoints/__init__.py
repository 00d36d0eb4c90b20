"""The services that a request can be sent to: hosted ones through LangChain, and a model in this process.

May import `maps_engine`, `prompts`, `agent.errors` and the rest of `agent.llm`.
"""
