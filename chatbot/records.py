"""The ground every part of the store stands on: transactions, and who and where by keyed hash.

One writer at a time, by a lock here and by the database's between processes; readers do not wait for it.
All calls are synchronous, may come from any thread, and raise DatabaseError with one clear line.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import ARRAY, Column, ColumnElement, Connection, Insert, any_, func, insert, literal, select, text

from chatbot import tables as t
from chatbot import textindex
from chatbot.copies import Copies
from chatbot.database import BUSY_TIMEOUT_S, explained, in_memory, open_engine, reader, sqlite_file, writer
from chatbot.identity import keyed_hash
from chatbot.writers import WritersQueue

# NUL ends a text early in some databases, and lone surrogates have no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_PARAMETERS = 30_000  # of one statement; SQLite takes 32,766, PostgreSQL 65,535
_FEW_ROWS = 1_000


def storable(words: str) -> str:
    """The text with NUL and lone surrogates, which no database keeps, as U+FFFD."""
    if words.isascii() and "\0" not in words:
        return words
    return _UNSTORABLE.sub("\ufffd", words)


def now() -> datetime:
    """This moment, aware, UTC."""
    return datetime.now(UTC)


def new_id(connection: Connection, row: Insert) -> int:
    """Insert one row; the number it got."""
    key = connection.execute(row).inserted_primary_key
    assert key is not None
    return int(key[0])


def one_of(connection: Connection, column: Column[Any], values: Iterable[Any]) -> ColumnElement[bool]:
    """The condition that a column holds one of these values, however many: they are one parameter."""
    if connection.dialect.name == "sqlite":
        return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))
    return column == any_(literal(list(values), ARRAY(column.type)))


def insert_many(connection: Connection, columns: Sequence[Column[Any]], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows of values in the order of `columns`, as many in one statement as it takes.

    Several times as fast as `insert`, which goes through the values of each row by name.
    """
    dialect, places, table = connection.dialect, range(len(columns)), columns[0].table
    processors = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns]
    names = ", ".join(dialect.identifier_preparer.quote(column.name) for column in columns)
    row = f"({', '.join(['?' if dialect.paramstyle == 'qmark' else '%s'] * len(columns))})"
    share = _PARAMETERS // len(columns)
    for start in range(0, len(rows), share):
        values = list(chain.from_iterable(some := rows[start : start + share]))
        for place, process in zip(places, processors, strict=True):
            if process is not None:
                values[place :: len(columns)] = map(process, values[place :: len(columns)])
        marks = ", ".join([row] * len(some))
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES {marks}", tuple(values))
        _acquaint(connection, table.name)


def _acquaint(connection: Connection, table: str) -> None:
    """Let a PostgreSQL server look at a table that it takes for nearly empty, now that there are rows in it.

    Else it goes on checking references as in an empty table, from its first row to its last.
    """
    if connection.dialect.name == "postgresql":
        known = connection.scalar(text(f"SELECT reltuples FROM pg_class WHERE oid = to_regclass('{table}')"))
        if known < _FEW_ROWS:
            connection.execute(text(f"ANALYZE {table}"))


def knows_people(url: str) -> bool:
    """Whether a database that is up to date holds anybody under a keyed hash."""
    if in_memory(url):
        return False
    engine = open_engine(url)
    try:
        with explained(url), engine.connect() as connection:
            return connection.scalar(select(t.person.c.id).limit(1)) is not None
    finally:
        engine.dispose()


class Records:
    """An open database and the key of its hashes. `sqlite://` lives in memory and gets its tables here.

    `copies` are the files to be cleaned with it; None: there are none.
    """

    def __init__(self, url: str, key: bytes, copies: Copies | None = None) -> None:
        self._url = url
        self._key = key
        self._copies = copies
        self._engine = open_engine(url)
        self._reader, self._writer = reader(self._engine), writer(self._engine)
        self._write_lock = threading.Lock()
        file = sqlite_file(url)  # a server has a fair line of its own
        self._queue = None if file is None else WritersQueue(file.with_name(f"{file.name}-queue"), BUSY_TIMEOUT_S)
        self._shared = threading.local()  # its `connection`: of the transaction that a thread's calls share
        # In memory there is one connection for all threads, so readers have to wait for writers there.
        self._read_lock = self._write_lock if in_memory(url) else nullcontext()
        if in_memory(url):
            t.metadata.create_all(self._engine)
            with self._writing() as connection:
                textindex.create(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        if self._queue is not None:
            self._queue.close()

    def remember_copy(self, path: Path, *, of: Path | None = None, whole: bool = False) -> None:
        """Note a file that is about to hold stored words, so that forgetting reaches it: `Copies.remember`."""
        if self._copies is not None:
            self._copies.remember(path, of=of, whole=whole)

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction for all calls of this thread meanwhile: committed at the end, rolled back by an exception."""
        with self._writing() as connection:
            self._shared.connection = connection
            try:
                yield
            finally:
                self._shared.connection = None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction that writes: committed at the end, rolled back by an exception."""
        shared: Connection | None = getattr(self._shared, "connection", None)
        if shared is not None:
            yield shared
            return
        turn = nullcontext() if self._queue is None else self._queue.turn()
        with explained(self._url), self._write_lock, turn, self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One consistent view. Keep it short: a long one stops the write-ahead log from being folded in."""
        shared: Connection | None = getattr(self._shared, "connection", None)
        if shared is not None:
            yield shared
            return
        with explained(self._url), self._read_lock, self._reader.connect() as connection:
            yield connection

    def _chat_key(self, platform: str, chat: str) -> str:
        return keyed_hash(self._key, "chat", platform, chat)

    def _person_id(self, connection: Connection, platform: str, sender: str) -> int | None:
        key = keyed_hash(self._key, "person", platform, sender)
        return connection.scalar(select(t.person.c.id).where(t.person.c.platform == platform, t.person.c.key == key))

    def _ensure_person(self, connection: Connection, platform: str, sender: str) -> int:
        found = self._person_id(connection, platform, sender)
        if found is not None:
            return found
        key = keyed_hash(self._key, "person", platform, sender)
        row = insert(t.person).values(platform=platform, key=key, created_at=now())
        return new_id(connection, row)

    def _chat_id(self, connection: Connection, platform: str, chat: str, thread: str | None) -> int | None:
        return connection.scalar(
            select(t.chat.c.id).where(
                t.chat.c.platform == platform,
                t.chat.c.key == self._chat_key(platform, chat),
                t.chat.c.thread == storable(thread or ""),
            )
        )

    def _ensure_chat(self, connection: Connection, platform: str, chat: str, thread: str | None) -> int:
        found = self._chat_id(connection, platform, chat, thread)
        if found is not None:
            return found
        row = insert(t.chat).values(
            platform=platform,
            key=self._chat_key(platform, chat),
            thread=storable(thread or ""),
            # In a terminal the name is the operator's own, and `--continue` has to find it again.
            name=storable(chat) if platform == "terminal" else None,
            context_start=0,
            created_at=now(),
        )
        return new_id(connection, row)
