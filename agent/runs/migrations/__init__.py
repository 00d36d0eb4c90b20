"""Alembic migrations of the records, run by `agent.runs.database.upgrade_database`."""
