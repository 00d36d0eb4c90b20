"""Where the work of a run is done: in this process, in one process a device, or on a Ray cluster.

May import `maps_engine`, `agent.errors`, `agent.quiet`, `agent.runs` and the rest of `agent.pipeline`.
"""
