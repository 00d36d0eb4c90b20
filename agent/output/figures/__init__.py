"""Figures (matplotlib) of relation scores, heatmaps and overviews, and of which heads feed which.

May import `maps_engine` and the rest of `agent.output`.
"""
