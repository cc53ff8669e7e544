"""Moving a whole store from one database to another, such as a file to a PostgreSQL server, or back.

In go two urls; out come the numbers of rows. It knows tables and rows, not what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, Integer, Table, func, select, text

from chatbot.database import explained, in_memory, open_engine, place, reader, writer
from chatbot.errors import DatabaseError, UsageError
from chatbot.records import insert_many
from chatbot.schema import exists, require_current
from chatbot.tables import metadata

_BATCH_ROWS = 1000


def copy_database(source: str, target: str) -> Mapping[str, int]:
    """Copy every row of `source`, as it stands at this moment, into `target`, all or nothing; rows by table.

    `target` is made if it is missing and must hold no rows. UsageError if it does, or if there is no such source;
    DatabaseOutdatedError if one of them is at another revision than this program.
    """
    if in_memory(source) or in_memory(target):
        raise UsageError("a database in memory cannot be copied: name a file or a server")
    if not exists(source):
        raise UsageError(f"there is nothing to copy in {place(source)}: check the url")
    require_current(source)
    require_current(target)
    with _connected(source) as old, _connected(target, writes=True) as new:
        for table in metadata.sorted_tables:
            if new.execute(select(1).select_from(table).limit(1)).first() is not None:
                raise UsageError(f"{place(target)} holds rows already: name an empty database")
        copied = {}
        for table in metadata.sorted_tables:
            copied[table.name] = _copy(old, new, table, target)
        return copied


@contextmanager
def _connected(url: str, *, writes: bool = False) -> Iterator[Connection]:
    """A connection in one transaction, committed at the end if it writes."""
    engine = open_engine(url)
    try:
        with explained(url), (writer(engine) if writes else reader(engine)).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _copy(old: Connection, new: Connection, table: Table, target: str) -> int:
    """All rows of a table in the order of their keys, in which none points to a later one; how many."""
    count = 0
    query = select(table).order_by(*table.primary_key)
    rows = old.execute(query, execution_options={"yield_per": _BATCH_ROWS})
    for batch in rows.partitions(_BATCH_ROWS):
        with explained(target):
            insert_many(new, list(table.c), batch)
        count += len(batch)
    with explained(target):
        arrived = new.scalar(select(func.count()).select_from(table))
        if arrived != count:
            raise DatabaseError(f"of {count} rows of {table.name} {arrived} arrived: nothing was copied")
        if "id" in table.c and isinstance(table.c.id.type, Integer) and count:
            _renumber(new, table)
    return count


def _renumber(new: Connection, table: Table) -> None:
    """A server numbers new rows by itself, and knows nothing of those that brought their number."""
    if new.dialect.name == "postgresql":
        new.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name}"))
