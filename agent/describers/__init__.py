"""Describers: they say in words what a head does, from the rows of its mapping (`protocol`).

`lexical` counts evidence and needs no language model; `language_model` asks one. `factory` opens either by its name.
May import `agent.words`, `agent.llm`, `agent.results`, `agent.errors`, `prompts` and `maps_engine`.
"""
