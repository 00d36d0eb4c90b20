"""Results of the agent: frozen dataclasses, the only things that pass between its steps.

Evidence, descriptions with their claims, outcomes of tests, and reports.

May import `maps_engine`, `agent.errors`, `agent.words` and `agent.llm`.
"""
