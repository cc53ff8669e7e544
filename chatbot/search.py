"""Finding in the log: by place, time, person, rating and words. Reads; only fills the index of texts on its way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Integer, Row, Select, and_, column, func, or_, select, table, text

from chatbot import tables as t
from chatbot import textindex
from chatbot.errors import DatabaseError
from chatbot.records import Records, storable

PSEUDONYM_DIGITS = 12  # of the 64 of a keyed hash: two of a million people share these once in 500 logs
_INDEXED_CHARACTERS = 3  # shorter words have no piece in the index
_FILL_S = 1.0  # of indexing before a search; it takes longer to index a text than to read it


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages are looked for; None leaves a condition out. `words` must all be in the text, in any case.

    `chat` is a chat's name or pseudonym, `person` a person's pseudonym, each cut short or not, or the platform's own
    id if `platform` is given. A person's messages come with the replies to them. `since` is the first moment, `until`
    the first one after.
    """

    platform: str | None = None
    chat: str | None = None
    person: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    rating: Literal["good", "bad", "taught"] | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A message of the log. `chat` is a name or a pseudonym, `person` a pseudonym, None for the bot.

    `rating` is the sum of what people gave it, None if nobody did; `taught` the latest correction.
    """

    id: int
    at: datetime
    platform: str
    chat: str
    person: str | None
    role: str
    text: str
    model: str | None
    rating: int | None
    taught: str | None


class SearchRecords(Records):
    """The part of the store that `chatbot logs` asks."""

    def search(self, wanted: Wanted, limit: int) -> list[Found]:
        """The latest `limit` messages that fit, oldest first. Erased ones are not found: they hold nothing."""
        if wanted.words:
            self._fill_text_index()
        with self._reading() as connection:
            query = _found().where(t.message.c.deleted_at.is_(None), *self._conditions(connection, wanted))
            rows = connection.execute(query.order_by(t.message.c.id.desc()).limit(limit)).all()
        return [_shown(row) for row in reversed(rows)]

    def _fill_text_index(self) -> None:
        """Index what was written since the last search, a little at a time, for others write meanwhile.

        After a large import many searches do it together: what is still lacking is read.
        """
        if self._engine.dialect.name != "sqlite":
            return
        end = time.monotonic() + _FILL_S
        try:
            while time.monotonic() < end:
                with self._writing() as connection:
                    if textindex.fill(connection) < textindex.FILL_ROWS:
                        return
        except DatabaseError:
            pass  # Read-only, full or locked: what the index lacks is read instead.

    def _conditions(self, connection: Connection, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
        m = t.message
        platform, chat, person = (
            None if name is None else storable(name) for name in (wanted.platform, wanted.chat, wanted.person)
        )
        if platform is not None:
            yield t.chat.c.platform == platform
        if chat is not None:
            here = or_(t.chat.c.name == chat, t.chat.c.key.startswith(chat, autoescape=True))
            yield here if platform is None else or_(here, t.chat.c.key == self._chat_key(platform, str(wanted.chat)))
        if person is not None:
            who = t.person.c.key.startswith(person, autoescape=True)
            if platform is not None:
                who = or_(who, t.person.c.id == self._person_id(connection, platform, str(wanted.person)))
            people = select(t.person.c.id).where(who)
            theirs = select(m.c.id).where(m.c.person_id.in_(people))
            yield or_(m.c.person_id.in_(people), and_(m.c.role == "bot", m.c.reply_to_id.in_(theirs)))
        if wanted.since is not None:
            yield m.c.created_at >= wanted.since
        if wanted.until is not None:
            yield m.c.created_at < wanted.until
        if wanted.rating == "taught":
            yield m.c.id.in_(select(t.correction.c.message_id).where(t.correction.c.deleted_at.is_(None)))
        elif wanted.rating is not None:
            value = 1 if wanted.rating == "good" else -1
            yield m.c.id.in_(select(t.feedback.c.message_id).where(t.feedback.c.rating == value))
        if wanted.words:
            yield _holding(connection, [storable(word) for word in wanted.words])


def _holding(connection: Connection, words: list[str]) -> ColumnElement[bool]:
    """The condition that all these words are in the text."""
    m = t.message.c
    scanned = and_(*(m.text.icontains(word, autoescape=True) for word in words))
    indexed = [word for word in words if len(word) >= _INDEXED_CHARACTERS]
    if connection.dialect.name != "sqlite" or not indexed:
        return scanned
    short = [m.text.icontains(word, autoescape=True) for word in words if len(word) < _INDEXED_CHARACTERS]
    phrases = " ".join('"' + word.replace('"', '""') + '"' for word in indexed)
    matching = text(f"{textindex.NAME} MATCH :phrases").bindparams(phrases=phrases)
    hits = select(column("rowid", Integer)).select_from(table(textindex.NAME)).where(matching)
    lacking = select(m.id).where(m.id > textindex.mark(connection), scanned)
    # One set of ids, from which SQLite goes to the rows; with an "or" it would go through all rows.
    return and_(m.id.in_(hits.union_all(lacking)), *short)


def _found() -> Select[*tuple[Any, ...]]:
    m = t.message
    taught = (
        select(t.correction.c.text)
        .where(t.correction.c.message_id == m.c.id, t.correction.c.deleted_at.is_(None))
        .order_by(t.correction.c.id.desc())
        .limit(1)
    )
    rating = select(func.sum(t.feedback.c.rating)).where(t.feedback.c.message_id == m.c.id)
    return (
        select(
            m.c.id,
            m.c.created_at,
            t.chat.c.platform,
            t.chat.c.name,
            t.chat.c.key,
            t.person.c.key.label("person"),
            m.c.role,
            m.c.text,
            m.c.model_id,
            rating.scalar_subquery().label("rating"),
            taught.scalar_subquery().label("taught"),
        )
        .join_from(m, t.chat)
        .outerjoin(t.person, m.c.person_id == t.person.c.id)
    )


def _shown(row: Row[*tuple[Any, ...]]) -> Found:
    return Found(
        id=row.id,
        at=row.created_at,
        platform=row.platform,
        chat=row.name or row.key[:PSEUDONYM_DIGITS],
        person=None if row.person is None else row.person[:PSEUDONYM_DIGITS],
        role=row.role,
        text=row.text,
        model=row.model_id,
        rating=row.rating,
        taught=row.taught,
    )
