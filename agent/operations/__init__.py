"""Known operations in a vector store (Chroma): the catalogue, what users add, and the search for those like a head.

May import `maps_engine`, `prompts`, `agent.errors`, `agent.words`, `agent.llm` and `agent.results`.
"""
