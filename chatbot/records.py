"""The ground every part of the store stands on: transactions, and who and where by keyed hash.

One writer at a time, by a lock here and by the database's between processes; readers do not wait for it.
All calls are synchronous, may come from any thread, and raise DatabaseError with one clear line.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Insert, insert, select

from chatbot import tables as t
from chatbot import textindex
from chatbot.copies import Copies
from chatbot.database import explained, in_memory, open_engine, reader, writer
from chatbot.identity import keyed_hash

# NUL ends a text early in some databases, and lone surrogates have no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with NUL and lone surrogates, which no database keeps, as U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def now() -> datetime:
    """This moment, aware, UTC."""
    return datetime.now(UTC)


def new_id(connection: Connection, row: Insert) -> int:
    """Insert one row; the number it got."""
    key = connection.execute(row).inserted_primary_key
    assert key is not None
    return int(key[0])


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
        with explained(self._url), self._write_lock, self._writer.begin() as connection:
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
