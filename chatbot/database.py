"""Opening a database: the settings every connection gets, and plain words for what can go wrong. Knows no table.

SQLite: write-ahead log, every commit synced (FULL), five seconds of patience for another process, foreign keys on,
freed text overwritten. A writing transaction takes the write lock at its start (BEGIN IMMEDIATE): one that reads
first and then writes would fail at once, whatever the patience. Our own processes stand in line for it:
`chatbot.writers`.

PostgreSQL: the same rule of one writer at a time, by an advisory lock that a writing transaction takes at its start.
So what reads first and then writes needs no retry there either, and ids are committed in their order, on which the
readers that go on from an id rely. Readers see one snapshot and cannot write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from chatbot.errors import DatabaseError, UsageError

BUSY_TIMEOUT_S = 30.0  # on a slow disk with a long line before it, a write may take that long; an error is no better
_CONNECT_TIMEOUT_S = 5
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")
_WRITERS_TURN = "SELECT pg_advisory_xact_lock(7026342)"  # any number that no other program takes in this database

_NO_SPACE = "there is no space left for {place}: free some and try again; what was recorded is safe"
_READ_ONLY = (
    "{place} is read-only: make it and its folder writable, or set CHATBOT_DATABASE_URL to a place you may write"
)
_LOCKED = f"another program has kept {{place}} locked for more than {BUSY_TIMEOUT_S:g} seconds: close it and try again"
_NO_TABLE = "{place} lacks a table: run `chatbot db upgrade`"
_NO_SERVER = "the server of {place} does not answer: start it, or check CHATBOT_DATABASE_URL"

# A part of what SQLite or PostgreSQL says -> what we say. The first that fits counts.
_EXPLANATIONS = (
    ("disk is full", _NO_SPACE),
    ("No space left", _NO_SPACE),
    ("readonly", _READ_ONLY),
    ("read-only transaction", _READ_ONLY),
    ("locked", _LOCKED),
    ("lock timeout", _LOCKED),
    ("malformed", "{place} is damaged: see `chatbot db check`, then put the last backup in its place"),
    (
        "not a database",
        "{place} is not a SQLite database: put a backup in its place or set CHATBOT_DATABASE_URL to another",
    ),
    ("no such table", _NO_TABLE),
    ("no such module", "this Python's SQLite lacks FTS5: use a Python with SQLite 3.34 or newer, or PostgreSQL"),
    ("no such tokenizer", "this Python's SQLite is too old: use a Python with SQLite 3.34 or newer, or PostgreSQL"),
    ('relation "', _NO_TABLE),
    ("authentication failed", "{place} refuses this user: check the name and password in CHATBOT_DATABASE_URL"),
    ("permission denied", "{place} gives this user too few rights: let the user own the database (docs/postgresql.md)"),
    ('database "', "{place} does not exist: make it with `createdb` (docs/postgresql.md)"),
    ("connection ", _NO_SERVER),
    (
        "unable to open",
        "{place} cannot be opened: check its folder, or set CHATBOT_DATABASE_URL to a place you may write",
    ),
)


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise UsageError(
            "the database url is not one: set CHATBOT_DATABASE_URL to something like sqlite:////home/me/chatbot.db"
        ) from error


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite url; None for a database in memory or on a server."""
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def in_memory(url: str) -> bool:
    """Whether the database lives only as long as the process."""
    return _parsed(url).get_backend_name() == "sqlite" and sqlite_file(url) is None


def place(url: str) -> str:
    """The database's name for people: its file, or its url without password and parameters, which may hold one."""
    file = sqlite_file(url)
    return f"the database {file or _parsed(url).set(query={}).render_as_string(hide_password=True)}"


def open_engine(url: str, *, look: bool = False) -> Engine:
    """An engine, for `reader` and `writer` to be made of; as it is, good for a look. Opens nothing yet.

    With `look` no file is changed: SQLite's keeps its journal mode. For those that may turn out not to be ours. Raises
    UsageError for a url that names no database we can speak to.
    """
    try:
        # Parameters hidden: they are people's words, and errors end up in logs.
        if in_memory(url):
            engine = create_engine(
                url, hide_parameters=True, poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        elif sqlite_file(url) is not None:
            engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
        else:
            # A server may restart between two messages: a connection is tried before it is used.
            engine = create_engine(
                url, hide_parameters=True, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_TIMEOUT_S}
            )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(
            f"the driver for {place(url)} is not installed ({error}): for PostgreSQL run"
            " `pip install 'familect[postgres]'`, or use a sqlite:/// url"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _look_up if look else _set_up)
        event.listen(engine, "begin", _begin)
        return engine
    event.listen(engine, "connect", _set_up_server)
    event.listen(engine, "begin", _take_turn)
    return engine


def reader(engine: Engine) -> Engine:
    """The same engine, each of its transactions seeing one state of the database."""
    if engine.dialect.name == "sqlite":
        return engine  # Where every transaction does.
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def writer(engine: Engine) -> Engine:
    """The same engine, its transactions taking the write lock at their start."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(writes=True)
    # Each statement sees what was committed before it, hence all that was before this writer's turn.
    return engine.execution_options(writes=True, isolation_level="READ COMMITTED")


def _look_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _set_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # Transactions begin where we say, in _begin.
    if connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
        connection.execute("PRAGMA journal_mode=WAL")
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_server(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S:g}s'")
    cursor.close()
    connection.commit()


def _take_turn(connection: Connection) -> None:
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql(_WRITERS_TURN)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the driver's errors into a DatabaseError of one line that says what to do."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        said = reason(error.orig if isinstance(error, DBAPIError) else error)
        for part, text in _EXPLANATIONS:
            if part in said:
                raise DatabaseError(text.format(place=place(url))) from error
        raise DatabaseError(f"{place(url)} failed ({said}): see `chatbot db check`") from error


def reason(error: BaseException | None) -> str:
    """A driver's message without its details: PostgreSQL's hold the values of a row."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    return str(primary or error).partition("\n")[0]
