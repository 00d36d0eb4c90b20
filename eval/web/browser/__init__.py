"""The head browser: reads of models, runs and heads, and their pages. Imports `agent.runs` and `eval.web.pages`."""
