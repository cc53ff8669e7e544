"""The log as lines and back: all that is stored of conversations, for another store or another program.

A line is a row with its table's name as `kind` and its columns as keys; people are the keyed hashes of
`chatbot.identity`, never the platform's ids. Data sets and the envelopes of messages in delivery are not in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    Table,
    and_,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError

from chatbot import tables as t
from chatbot.records import Records, insert_many, now, storable

LOG_VERSION = 1
# Kind of line -> what several are called. In this order each line refers to none after it.
EXPORTED: Mapping[str, str] = {
    "person": "people",
    "chat": "chats",
    "import_batch": "imports",
    "model": "models",
    "message": "messages",
    "consent": "consents",
    "feedback": "ratings",
    "correction": "corrections",
}
_TABLES: Mapping[str, Table] = {name: t.metadata.tables[name] for name in EXPORTED}
# A chat's own beginning is a message, and stands behind the messages in a line of its own ("reset").
_LEFT_OUT = {("chat", "address"), ("chat", "context_start"), ("model", "dataset_id")}
# What makes two rows the same one. A reply has no id of a platform: it is known by what it answers, and when.
_SAME: Mapping[str, tuple[str, ...]] = {
    "person": ("platform", "key"),
    "chat": ("platform", "key", "thread"),
    "import_batch": ("source", "declaration", "created_at"),
    "model": ("id",),
    "message": ("chat_id", "platform_message_id"),
    "reply": ("chat_id", "role", "reply_to_id", "created_at"),
    "feedback": ("message_id", "person_id"),
    "correction": ("message_id", "person_id", "created_at"),
}
_PAGE_ROWS = 2_000


class UnfitRecordError(Exception):
    """A line that is no row of ours; the text says why."""


class Numbers:
    """Which row of a file became which row here. Rows come in order, so stretches that moved alike are one entry."""

    def __init__(self) -> None:
        self._from: list[int] = []
        self._by: list[int] = []
        self._last = 0

    def add(self, old: int, new: int) -> None:
        """A row of the file, behind all before it, and the row that it is here."""
        if old <= self._last:
            raise UnfitRecordError("out of order")
        if not self._by or self._by[-1] != new - old:
            self._from.append(old)
            self._by.append(new - old)
        self._last = old

    def get(self, old: int) -> int:
        """Where a row of the file is now."""
        place = bisect_right(self._from, old) - 1
        if place < 0 or old > self._last:
            raise UnfitRecordError("refers to a row that is not in the file before it")
        return old + self._by[place]


class Restoring:
    """The state of one file that is put back: what became of its rows, and which tables were empty before."""

    def __init__(self, empty: frozenset[str]) -> None:
        self.numbers = {name: Numbers() for name in EXPORTED if name != "model"}
        self.empty = empty


class ArchiveRecords(Records):
    """The part of the store that writes itself out and takes itself in."""

    def dump(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every line with its kind, as values for JSON. Reads page by page; what comes in meanwhile is not in it."""
        with self._reading() as connection:
            ends = {name: connection.scalar(select(func.max(table.c.id))) for name, table in _TABLES.items()}
        yield "", {"familect_log": LOG_VERSION, "exported_at": now().isoformat()}
        for name, table in _TABLES.items():
            columns = [column for column in table.c if (name, column.name) not in _LEFT_OUT]
            for row in self._pages(table, columns, ends[name]):
                yield name, {"kind": name} | {key: _written(value) for key, value in row.items()}
            if name == "message":
                begun = [t.chat.c.id, t.chat.c.context_start]
                for row in self._pages(t.chat, begun, ends["chat"]):
                    if row["context_start"]:
                        yield "reset", {"kind": "reset", **row}

    def _pages(self, table: Table, columns: Sequence[Column[Any]], end: object) -> Iterator[dict[str, Any]]:
        after: object = None
        while end is not None:  # an empty table ends nowhere
            query = select(*columns).where(table.c.id <= end).order_by(table.c.id).limit(_PAGE_ROWS)
            with self._reading() as connection:
                page = connection.execute(query if after is None else query.where(table.c.id > after)).mappings().all()
            yield from (dict(row) for row in page)
            if len(page) < _PAGE_ROWS:
                return
            after = page[-1]["id"]

    def begin_restore(self) -> Restoring:
        """Before the first line: which tables are empty, so that rows can keep their numbers there."""
        with self._reading() as connection:
            some = {name: connection.scalar(select(table.c.id).limit(1)) for name, table in _TABLES.items()}
        return Restoring(frozenset(name for name, row in some.items() if row is None))

    def restore(
        self, restoring: Restoring, kind: str, records: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> tuple[int, dict[int, str]]:
        """Put lines of one kind back, in one transaction: how many are new, and what is wrong, by their numbers.

        What is there already stays as it is, what was erased stays erased.
        """
        wrong: dict[int, str] = {}
        with self._writing() as connection:
            if kind == "reset":
                return _reset(connection, restoring, records, wrong), wrong
            rows: list[tuple[int, dict[str, Any]]] = []
            coming = _first_free(connection, kind)
            for line, record in records:
                try:
                    row = _row(kind, record, restoring)
                    there = None if kind in restoring.empty else _same(connection, kind, row)
                    if there is None:
                        if kind not in restoring.empty and kind != "model":
                            row["id"], coming = coming, coming + 1
                        rows.append((line, row))
                    if kind != "model":
                        restoring.numbers[kind].add(record["id"], row["id"] if there is None else int(there))
                except UnfitRecordError as error:
                    wrong[line] = str(error)
            new = _insert(connection, _TABLES[kind], rows, wrong)
            if new and connection.dialect.name == "postgresql" and kind != "model":
                moved = f"SELECT setval(pg_get_serial_sequence('{kind}', 'id'), (SELECT max(id) FROM {kind}))"
                connection.execute(text(moved))
        return new, wrong


def _written(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _first_free(connection: Connection, kind: str) -> int:
    """The number behind the last row. PostgreSQL counts in a sequence, so others have to wait until it is moved."""
    if kind == "model":
        return 0
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {kind} IN SHARE ROW EXCLUSIVE MODE"))
    return int(connection.scalar(select(func.coalesce(func.max(_TABLES[kind].c.id), 0))) or 0) + 1


def _row(kind: str, record: Mapping[str, Any], restoring: Restoring) -> dict[str, Any]:
    """The columns of a row, each of its type, with the numbers that rows have here. UnfitRecordError if it is none."""
    row: dict[str, Any] = {}
    for column in _TABLES[kind].c:
        name = column.name
        if (kind, name) in _LEFT_OUT:
            row[name] = 0 if name == "context_start" else None
            continue
        value = _typed(column, record.get(name))
        if value is not None and name != "id":
            target = next((key.column.table.name for key in column.foreign_keys), None)
            if name == "context_start" and value:
                target = "message"
            if target in restoring.numbers:
                value = restoring.numbers[target].get(value)
        row[name] = value
    return row


def _typed(column: Column[Any], value: Any) -> Any:
    if value is None:
        if not column.nullable:
            raise UnfitRecordError(f"has no {column.name}")
        return None
    kind = column.type
    if isinstance(kind, t.UtcDateTime):
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return moment
    elif isinstance(kind, Boolean):
        if isinstance(value, bool):
            return value
    elif isinstance(kind, Integer):
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
    elif isinstance(kind, Float):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(kind, JSON):
        return value
    elif isinstance(value, str) and len(value) <= (getattr(kind, "length", None) or len(value)):
        return storable(value)
    raise UnfitRecordError(f"has a {column.name} that is none")


def _same(connection: Connection, kind: str, row: Mapping[str, Any]) -> Any:
    """The row here that is the same one, None if there is none yet."""
    table = _TABLES[kind]
    if kind == "consent":
        # The last entry of the ledger counts, so an old log must not come behind what somebody said since then.
        c, there = t.consent.c, t.chat.alias()
        chats = and_(there.c.platform == t.chat.c.platform, there.c.key == t.chat.c.key)
        said = select(c.id).join_from(t.consent, t.chat).join(there, chats)
        mine = said.where(there.c.id == row["chat_id"], c.person_id == row["person_id"], c.scope == row["scope"])
        return connection.scalar(mine.where(c.at >= row["at"]).limit(1))
    known_by = "reply" if kind == "message" and row["platform_message_id"] is None else kind
    return connection.scalar(select(table.c.id).where(*(table.c[name] == row[name] for name in _SAME[known_by])))


def _insert(
    connection: Connection, table: Table, rows: Sequence[tuple[int, dict[str, Any]]], wrong: dict[int, str]
) -> int:
    """Insert all at once, or, where one of them does not fit, one by one without those."""
    if not rows:
        return 0
    try:
        with connection.begin_nested():
            insert_many(connection, list(table.c), [list(row.values()) for _, row in rows])
        return len(rows)
    except (IntegrityError, DataError):
        pass
    new = 0
    for line, row in rows:
        try:
            with connection.begin_nested():
                connection.execute(insert(table), row)
            new += 1
        except (IntegrityError, DataError):
            wrong[line] = "is there already, refers to what is not, or holds a value that is not allowed"
    return new


def _reset(
    connection: Connection,
    restoring: Restoring,
    records: Sequence[tuple[int, Mapping[str, Any]]],
    wrong: dict[int, str],
) -> int:
    """Where the talk of a chat begins, for chats in which no later beginning is known."""
    columns = t.chat.c.id, t.chat.c.context_start
    for line, record in records:
        try:
            chat, start = (_typed(column, record.get(column.name)) for column in columns)
            here = restoring.numbers["chat"].get(chat)
            begin = restoring.numbers["message"].get(start)
        except UnfitRecordError as error:
            wrong[line] = str(error)
        else:
            later = update(t.chat).where(t.chat.c.id == here, t.chat.c.context_start < begin)
            connection.execute(later.values(context_start=begin))
    return 0
