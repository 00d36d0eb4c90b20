"""What can be known of single words and tokens: spelling, forms, classes, semantic fields, vectors.

May import `prompts` and `maps_engine`, nothing else of `agent`.
"""
