"""Opening a database: the settings every connection gets, and plain words for what can go wrong. Knows no table.

SQLite: write-ahead log, every commit synced (FULL), five seconds of patience for another process, foreign keys on,
freed text overwritten. A writing transaction takes the write lock at its start (BEGIN IMMEDIATE): one that reads
first and then writes would fail at once, whatever the patience.
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

BUSY_TIMEOUT_S = 5.0
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")

# A part of what SQLite says -> what we say. The first that fits counts.
_EXPLANATIONS = (
    (
        "disk is full",
        "there is no space left for {place}: free some and try again; what was recorded is safe",
    ),
    (
        "readonly",
        "{place} is read-only: make it and its folder writable, or set CHATBOT_DATABASE_URL to a place you may write",
    ),
    (
        "locked",
        "another program has kept {place} locked for more than 5 seconds: close it and try again",
    ),
    ("malformed", "{place} is damaged: see `chatbot db check`, then put the last backup in its place"),
    (
        "not a database",
        "{place} is not a SQLite database: put a backup in its place or set CHATBOT_DATABASE_URL to another",
    ),
    ("no such table", "{place} lacks a table: run `chatbot db upgrade`"),
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
    """The database's name for people: its file, or its url without the password."""
    file = sqlite_file(url)
    return f"the database {file or _parsed(url).render_as_string(hide_password=True)}"


def open_engine(url: str) -> Engine:
    """An engine whose transactions are readers unless taken through `writing`. Opens nothing yet.

    Raises UsageError for a url that names no database we can speak to.
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
            engine = create_engine(url, hide_parameters=True)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UsageError(
            f"the driver for {place(url)} is not installed ({error}): install it or use a sqlite:/// url"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
    return engine


def writer(engine: Engine) -> Engine:
    """The same engine, its transactions taking the write lock at their start."""
    return engine.execution_options(writes=True)


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


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the driver's errors into a DatabaseError of one line that says what to do."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error)
        for part, text in _EXPLANATIONS:
            if part in said:
                raise DatabaseError(text.format(place=place(url))) from error
        raise DatabaseError(f"{place(url)} failed ({said}): see `chatbot db check`") from error
