"""Alembic migrations of the records, run by `agent.database.upgrade_database`."""
