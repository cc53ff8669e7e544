"""The index of erased messages holds those alone: a message that is there costs it nothing, and nobody looks there."""

import sqlalchemy as sa
from alembic import op

# Imports nothing of ours: the code moves on, a revision stays as it is.
revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make it anew, with a condition."""
    op.drop_index(op.f("ix_message_deleted_at"), "message")
    erased = sa.text("deleted_at IS NOT NULL")
    op.create_index(
        op.f("ix_message_deleted_at"), "message", ["deleted_at"], sqlite_where=erased, postgresql_where=erased
    )


def downgrade() -> None:
    """Make it anew, without."""
    op.drop_index(op.f("ix_message_deleted_at"), "message")
    op.create_index(op.f("ix_message_deleted_at"), "message", ["deleted_at"])
