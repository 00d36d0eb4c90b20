"""The source representation that relation scores were read through; unknown for those stored before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("relation_scores", sa.Column("source", sa.String(length=40), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("relation_scores") as table:
        table.drop_column("source")
