"""Talk from elsewhere into the store: many turns in one transaction, none of them twice.

What a turn is, who answers whom and where a dialogue begins was decided before: `chatbot.importers.talk`. Here ids of
the source become ids of rows. Whether such rows may be learnt from is decided in `chatbot.learnable`, as for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, func, select, text, update

from chatbot import tables as t
from chatbot.identity import keyed_hash
from chatbot.importers.records import IMPORT_PLATFORM, Row
from chatbot.records import Records, insert_many, now, one_of, storable


@dataclass(frozen=True, slots=True)
class Added:
    """Of a batch: the turns and beginnings of dialogues that are new, and the turns that were there before."""

    dialogues: int
    turns: int
    before: int


class _Stored(NamedTuple):
    """A turn that is in the database."""

    id: int
    context_start: int
    text: str
    erased: bool


_Key = tuple[int, str]  # the row of the chat, and the source's id of the message
_Place = tuple[int, int, str, int | None, int]  # the first of these columns
_COLUMNS = (
    t.message.c.id,
    t.message.c.chat_id,
    t.message.c.platform_message_id,
    t.message.c.reply_to_id,
    t.message.c.context_start,
    t.message.c.person_id,
    t.message.c.import_batch_id,
    t.message.c.role,
    t.message.c.text,
    t.message.c.created_at,
)


class ImportRecords(Records):
    """The part of the store that takes in what was said elsewhere."""

    def add_imported(self, batch: int, platform: str, thread: str | None, rows: Sequence[Row]) -> Added:
        """Store the turns that are not there yet, in one transaction, under an import batch.

        Known turns stay as they are, but for two things: a turn that has grown by further lines gets these, and turns
        that were imported without a declaration get this batch's.
        """
        at = now()
        with self._writing() as connection:
            chats, fresh = self._imported_chats(connection, platform, thread, {row.chat for row in rows}, at)
            keyed = [((chats[row.chat], storable(row.id)), row) for row in rows]
            known = _known(connection, keyed, fresh)
            new: dict[_Key, Row] = {}
            for key, row in keyed:
                if key not in known:
                    new.setdefault(key, row)
            people = self._imported_people(connection, platform, batch, {row.speaker for row in new.values()}, at)
            ends = _ends(connection, {chat for chat, _ in new} - fresh)
            placed = _placed(new, _reserve(connection, len(new)), known, ends)
            insert_many(
                connection,
                _COLUMNS,
                [
                    (*place, people[row.speaker], batch, "user", storable(row.text), row.sent_at or at)
                    for place, row in zip(placed, new.values(), strict=True)
                ],
            )
            before = [(known[key], row) for key, row in keyed if key in known]
            _grow(connection, before, at)
            _declare(connection, batch, [stored.id for stored, _ in before])
        return Added(sum(row.begins for row in new.values()), len(new), len(rows) - len(new))

    def _imported_chats(
        self, connection: Connection, platform: str, thread: str | None, names: Collection[str], at: datetime
    ) -> tuple[dict[str, int], set[int]]:
        """The rows of the chats by name, and those of them that are new."""
        keys = {name: self._chat_key(platform, name) for name in names}
        rest = {"platform": platform, "thread": storable(thread or ""), "context_start": 0, "created_at": at}
        ids, fresh = _ensure(connection, t.chat, keys.values(), rest)
        return {name: ids[key] for name, key in keys.items()}, fresh

    def _imported_people(
        self, connection: Connection, platform: str, batch: int, names: Collection[str], at: datetime
    ) -> dict[str, int]:
        """The rows of the speakers by name. Who has no account anywhere counts within the import only."""
        scope = f"{batch}:" if platform == IMPORT_PLATFORM else ""
        keys = {name: keyed_hash(self._key, "person", platform, scope + name) for name in names}
        ids, _ = _ensure(connection, t.person, keys.values(), {"platform": platform, "created_at": at})
        return {name: ids[key] for name, key in keys.items()}


def _ensure(
    connection: Connection, table: Table, keys: Iterable[str], rest: Mapping[str, Any]
) -> tuple[dict[str, int], set[int]]:
    """The rows with these keys, made where there are none; and which were made. `rest` is what else they hold."""
    wanted = sorted(set(keys))
    same = [table.c[name] == rest[name] for name in ("platform", "thread") if name in rest]

    def find(missing: Sequence[str]) -> dict[str, int]:
        query = select(table.c.key, table.c.id).where(one_of(connection, table.c.key, missing), *same)
        return dict(connection.execute(query).all())

    found = find(wanted)
    missing = [key for key in wanted if key not in found]
    columns = [table.c.key, *(table.c[name] for name in rest)]
    insert_many(connection, columns, [(key, *rest.values()) for key in missing])
    made = find(missing)
    return found | made, set(made.values())


def _known(connection: Connection, keyed: Sequence[tuple[_Key, Row]], fresh: Collection[int]) -> dict[_Key, _Stored]:
    """What is stored of these turns, and of what they answer. A chat that was made just now holds nothing.

    Asked chat by chat: for pairs of a chat and an id in one list, SQLite would read the whole table.
    """
    wanted: dict[int, set[str]] = defaultdict(set)
    for (chat, name), row in keyed:
        if chat not in fresh:
            wanted[chat].add(name)
            if row.reply_to is not None:
                wanted[chat].add(storable(row.reply_to))
    m = t.message
    known = {}
    for chat, names in wanted.items():
        query = select(m.c.platform_message_id, m.c.id, m.c.context_start, m.c.text, m.c.deleted_at.is_not(None))
        here = query.where(m.c.chat_id == chat, one_of(connection, m.c.platform_message_id, names))
        for name, *stored in connection.execute(here):
            known[chat, name] = _Stored(*stored)
    return known


def _ends(connection: Connection, chats: Collection[int]) -> dict[int, tuple[int, int]]:
    """The last row of each chat, and where the dialogue began that it is in."""
    m = t.message
    # One look into the index for each chat; a maximum by group would go through all rows of the chats.
    last = select(func.max(m.c.id)).where(m.c.chat_id == t.chat.c.id).correlate(t.chat)
    query = select(m.c.chat_id, m.c.id, m.c.context_start).join_from(t.chat, m, m.c.id == last.scalar_subquery())
    found = connection.execute(query.where(one_of(connection, t.chat.c.id, chats)))
    return {chat: (number, start) for chat, number, start in found}


def _placed(
    new: Mapping[_Key, Row], ids: Sequence[int], known: Mapping[_Key, _Stored], ends: dict[int, tuple[int, int]]
) -> Iterator[_Place]:
    """The columns that follow from what is in the chat: numbers, answers, and where the context begins."""
    placed: dict[_Key, tuple[int, int]] = {}
    for number, (key, row) in zip(ids, new.items(), strict=True):
        chat, name = key
        last, start = ends.get(chat, (0, 0))
        if row.begins:
            start = last
        answered, context = None, start
        if row.reply_to is not None:
            target = (chat, storable(row.reply_to))
            asked = placed.get(target) or known.get(target)
            if asked is not None:
                answered = asked[0]
                # An answer over a long pause has the context of what it answers.
                context = start if answered > start else asked[1]
        placed[key] = (number, context)
        ends[chat] = (number, start)
        yield number, chat, name, answered, context


def _reserve(connection: Connection, count: int) -> Sequence[int]:
    """Numbers for new rows of `message`, rising. SQLite has one writer and counts on from the last row."""
    if connection.dialect.name == "postgresql":
        numbers = "SELECT nextval(pg_get_serial_sequence('message', 'id')) FROM generate_series(1, :count)"
        return sorted(connection.scalars(text(numbers), {"count": count}))
    last = connection.scalar(select(func.coalesce(func.max(t.message.c.id), 0))) or 0
    return range(last + 1, last + 1 + count)


def _grow(connection: Connection, before: Iterable[tuple[_Stored, Row]], at: datetime) -> None:
    """Turns that were the last of an earlier export, with the lines that came after. What was erased stays so."""
    grown = [
        {"number": stored.id, "new": storable(row.text), "at": at}
        for stored, row in before
        if row.merged > 1 and not stored.erased and storable(row.text).startswith(f"{stored.text}\n")
    ]
    if grown:
        longer = update(t.message).where(t.message.c.id == bindparam("number"))
        connection.execute(longer.values(text=bindparam("new"), edited_at=bindparam("at")), grown)


def _declare(connection: Connection, batch: int, numbers: Sequence[int]) -> None:
    """Turns that were imported without a declaration go over to a batch that has one."""
    b = t.import_batch
    if not numbers or connection.scalar(select(b.c.declaration).where(b.c.id == batch)) is None:
        return
    undeclared = t.message.c.import_batch_id.in_(select(b.c.id).where(b.c.declaration.is_(None)))
    here = one_of(connection, t.message.c.id, numbers)
    connection.execute(update(t.message).where(here, undeclared).values(import_batch_id=batch))
