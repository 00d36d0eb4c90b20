"""The JSON API and the page that documents it. Imports `eval.web.browser`, `eval.rating` and `agent.runs`."""
