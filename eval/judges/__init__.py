"""Judges: programs that answer questions about the rows and the description of a head, behind one Protocol.

Scoring asks them how well rows fit a description, a rating study asks them what it asks people. May import `agent`,
`maps_engine` and `prompts`, and nothing of the other rooms of `eval`.
"""
