"""What words are to each other: spelling, forms, fields of meaning, embeddings, and pairs of the catalogue.

May import `maps_engine`, `prompts`, `agent.errors` and `agent.quiet`.
"""
