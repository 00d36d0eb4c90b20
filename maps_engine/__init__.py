"""Weights to numbers: the map M = E W_VO U of an attention head, its salient tokens and relation scores.

This package knows checkpoints, tensors and tokenizers, and nothing of agents, databases or HTTP.
"""
