"""Language models as one interface: providers, limits, retries, kept replies, tool calls, validated answers.

May import `maps_engine`, `prompts`, `agent.errors` and `agent.quiet`.
"""
