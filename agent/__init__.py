"""Numbers to words: retrieve known operations, say what a head does, test what was said, record and show it.

`errors` holds what can go wrong, `results` what passes between the rooms.

May import `maps_engine` and `prompts`, never `eval`.
"""
