"""The index that finds texts: FTS5 on SQLite, trigrams on PostgreSQL."""

import sqlalchemy as sa
from alembic import op

# Imports nothing of ours: the code moves on, a revision stays as it is.
revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Filled later, by the first search: an upgrade takes no longer where the log is long.
SQLITE = (
    "CREATE VIRTUAL TABLE message_text USING fts5(text, content='message', content_rowid='id', tokenize='trigram')",
    "CREATE TRIGGER message_text_edited AFTER UPDATE OF text ON message"
    " WHEN new.text <> '' AND old.id <= (SELECT coalesce(max(id), 0) FROM message_text_docsize) BEGIN"
    " INSERT INTO message_text(message_text, rowid, text) VALUES ('delete', old.id, old.text);"
    " INSERT INTO message_text(rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER message_text_erased AFTER UPDATE OF text ON message"
    " WHEN new.text = '' AND old.text <> '' AND old.id <= (SELECT coalesce(max(id), 0) FROM message_text_docsize) BEGIN"
    " INSERT INTO message_text(message_text) VALUES ('delete-all'); END",
)
POSTGRESQL = "CREATE INDEX message_text_trigrams ON message USING gin (text gin_trgm_ops)"


def upgrade() -> None:
    """Make the index, on PostgreSQL if its extension may be had; without it searching is only slower."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        for statement in SQLITE:
            op.execute(statement)
        return
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        return  # Not installed on the server, or not allowed to this user.
    op.execute(POSTGRESQL)


def downgrade() -> None:
    """Drop it; the extension stays, others may use it."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER message_text_edited")
        op.execute("DROP TRIGGER message_text_erased")
        op.execute("DROP TABLE message_text")
    else:
        op.execute("DROP INDEX IF EXISTS message_text_trigrams")
