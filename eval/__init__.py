"""What checks the rest: experiments with forward passes, scores of descriptions, rating studies and the web app.

May import `maps_engine`, `agent` and `prompts`.
"""
