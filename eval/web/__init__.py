"""The web app: head browser, rating pages, pages for who leads a study, and the JSON API.

See docs/design.md, "The web app".

May import `maps_engine`, `agent`, `prompts` and every room of `eval` but `eval.commands`: `eval.errors`,
`eval.results_folder`, `eval.judges`, `eval.rating`, `eval.faithfulness` and `eval.scoring`.
"""
