"""The inbox: what messengers delivered, from its arrival until its reply is out."""

import sqlalchemy as sa
from alembic import op

# Imports nothing of ours: the code moves on, a revision stays as it is.
revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DELIVERIES = "delivery IN ('pending', 'sending', 'sent', 'unknown')"
DELIVERIES_NOW = "delivery IN ('pending', 'sending', 'sent', 'failed', 'unknown')"


def upgrade() -> None:
    """Make the table, and let a reply's delivery fail."""
    op.create_table(
        "inbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chat_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("platform_message_id", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("envelope", sa.Text()),
        sa.Column("reply", sa.Text()),
        sa.Column("reply_id", sa.Integer()),
        sa.Column("sent", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('received', 'pending', 'sending', 'sent', 'failed', 'unknown')", name=op.f("ck_inbox_state")
        ),
        sa.ForeignKeyConstraint(["chat_id"], ["chat.id"], name=op.f("fk_inbox_chat_id_chat")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_inbox_person_id_person")),
        sa.ForeignKeyConstraint(["reply_id"], ["message.id"], name=op.f("fk_inbox_reply_id_message")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("chat_id", "platform_message_id", name=op.f("uq_inbox_chat_id_platform_message_id")),
    )
    op.create_index(op.f("ix_inbox_person_id"), "inbox", ["person_id"])
    op.create_index(op.f("ix_inbox_state"), "inbox", ["state"])
    _deliveries(DELIVERIES_NOW)


def downgrade() -> None:
    """Drop the table; what failed was not said to have been."""
    op.drop_table("inbox")
    op.execute("UPDATE message SET delivery = 'unknown' WHERE delivery = 'failed'")
    _deliveries(DELIVERIES)


def _deliveries(condition: str) -> None:
    """Replace one condition of `message`."""
    with op.batch_alter_table("message") as message:
        message.drop_constraint(op.f("ck_message_delivery"), type_="check")
        message.create_check_constraint(op.f("ck_message_delivery"), condition)
