"""What a head attends to: numbers, words and kinds; unknown for heads described before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("heads", sa.Column("attention", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("heads", sa.Column("attended", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("heads", sa.Column("attention_kinds", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("heads") as table:
        table.drop_column("attention_kinds")
        table.drop_column("attended")
        table.drop_column("attention")
