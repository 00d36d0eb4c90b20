"""The commands around scores, experiments, studies and the web app, and `headscribe`, which has all commands.

The topmost room: may import everything, and nothing imports it. Whatever is heavy is imported inside a command, so
that `--help` is instant.
"""
