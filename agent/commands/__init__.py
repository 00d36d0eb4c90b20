"""The commands: options in, a call to the rooms below, an exit code out. Heavy imports stand inside the handlers.

See docs/design.md, "Commands".

May import `maps_engine`, `prompts` and all of `agent`.
"""
