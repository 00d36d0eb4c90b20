"""The parts of a head, and all operations that its tests support; unknown for heads described before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("heads", sa.Column("parts", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("descriptions", sa.Column("operations", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("descriptions", sa.Column("operation_names", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("descriptions") as table:
        table.drop_column("operation_names")
        table.drop_column("operations")
    with op.batch_alter_table("heads") as table:
        table.drop_column("parts")
