"""Known operations, which heads are compared with: what one is, how it is stored, retrieved and added.

May import `agent.words`, `agent.results`, `agent.errors` and `maps_engine`.
"""
