"""Figures of relation scores (matplotlib): heatmaps, an overview of the layers, operations per head.

May import `maps_engine` and the rest of `agent.output`.
"""
