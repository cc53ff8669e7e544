"""The index that finds texts: FTS5 on SQLite, trigrams on PostgreSQL. Pieces of three characters, for Chinese too.

SQLite's is filled by `fill`, not by each message: to index one costs several times what storing it does. So it may lag
behind, and searching reads what it lacks. What changes below its mark is kept right by triggers, and one erased text
empties it, since FTS5 keeps the pieces of deleted texts for a while: docs/decisions/search.md.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

NAME = "message_text"  # what is called so, or begins so, in a database is this index
FILL_ROWS = 250  # in one transaction, for which messages of others have to wait

# The same statements stand in revision 0003, which must not change when these do; a test compares them.
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


def create(connection: Connection) -> None:
    """Make the index of a new database. Without the extension pg_trgm PostgreSQL has none, and searching is slower."""
    if connection.dialect.name == "sqlite":
        for statement in SQLITE:
            connection.execute(text(statement))
    elif connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'")):
        connection.execute(text(POSTGRESQL))


def mark(connection: Connection) -> int:
    """SQLite: the id of the last message that is indexed."""
    return connection.scalar(text("SELECT coalesce(max(id), 0) FROM message_text_docsize")) or 0


def fill(connection: Connection) -> int:
    """SQLite: index the next messages that are not; how many these were."""
    next_rows = "SELECT id, text FROM message WHERE id > :mark ORDER BY id LIMIT :rows"
    return connection.execute(
        text(f"INSERT INTO message_text(rowid, text) {next_rows}"), {"mark": mark(connection), "rows": FILL_ROWS}
    ).rowcount
