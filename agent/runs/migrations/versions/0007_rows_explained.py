"""What a head writes whatever it reads, and which tokens of its rows are undertrained; unknown for heads before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("heads", sa.Column("constant_part", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("heads", sa.Column("undertrained", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    with op.batch_alter_table("heads") as table:
        table.drop_column("undertrained")
        table.drop_column("constant_part")
