"""From a head to its record: map, retrieve, propose, test, revise, record, for one head or many.

See docs/design.md, "The way of the data".

May import `maps_engine`, `prompts` and every room of `agent` but `agent.output` and `agent.commands`:
`agent.errors`, `agent.quiet`, `agent.words`, `agent.llm`, `agent.results`, `agent.operations`, `agent.describers`,
`agent.checks` and `agent.runs`.
"""
