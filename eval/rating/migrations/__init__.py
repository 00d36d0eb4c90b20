"""Alembic migrations of the rating tables, run by `eval.rating.store.open_studies`; each stands for itself.

May import nothing of ours.
"""
