"""Alembic migrations of the records, run by `agent.runs.database.upgrade_database`; each stands for itself.

May import nothing of ours.
"""
