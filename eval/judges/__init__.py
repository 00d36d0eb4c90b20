"""Who judges a description: by words, by embeddings, or by asking a language model; one protocol for all.

May import `maps_engine`, `agent`, `prompts`, `eval.errors` and `eval.results_folder`.
"""
