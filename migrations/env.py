"""Runs the revisions: on the connection that `chatbot.schema` hands over, or for `alembic -x url=... COMMAND`."""

from alembic import context
from sqlalchemy import Connection

from chatbot.schema import migration_connection
from chatbot.tables import metadata


def run(connection: Connection) -> None:
    """Run what was asked for in the transaction that is open already."""
    # Batch mode: SQLite cannot alter most of a table in place. Its DDL is transactional, whatever Alembic assumes.
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        raise SystemExit("which database? Say it: alembic -x url=sqlite:////home/me/chatbot.db COMMAND")
    with migration_connection(str(url)) as connection:
        run(connection)
