"""The rows of a head as the truest reading has them, where it was read under another; unknown for those before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("heads", sa.Column("same_tokens", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("heads") as table:
        table.drop_column("same_tokens")
