"""Asking a language model: providers, limits, retries, replies kept on disk, tool calls, validated answers.

`protocol` is what callers see, `models` opens a model by name, `endpoints` hold one adapter for each kind of client.
May import `agent.errors`, `prompts` and `maps_engine`.
"""
