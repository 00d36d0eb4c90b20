"""Alembic migrations of the rating tables, run by `eval.rating.store.open_studies`."""
