"""How a description was found: attempts with their trials, conversation, intruder test, pairs kept for judging."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("descriptions", sa.Column("trace", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("descriptions") as table:
        table.drop_column("trace")
