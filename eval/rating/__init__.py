"""Rating studies: people judge descriptions of heads without seeing who made them, each by exactly k people.

See docs/design.md, "Rating studies".

May import `maps_engine`, `agent`, `prompts`, `eval.errors`, `eval.results_folder`, `eval.statistics` and
`eval.judges`.
"""
