"""The commands of checks, scores and rating; options in, a call to the rooms below, an exit code out.

See docs/design.md, "Commands".

May import `maps_engine`, `agent`, `prompts` and all of `eval`.
"""
