"""The commands around heads, runs and operations, each a few lines over the rooms below, and what commands share.

May import every room of `agent`, `maps_engine` and `prompts`; `eval.commands` alone imports it. Whatever is heavy is
imported inside a command, so that `--help` is instant.
"""
