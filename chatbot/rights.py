"""What people may ask of the store: consent given and withdrawn, their data shown, their words erased."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Select, insert, or_, select, update

from chatbot import tables as t
from chatbot.inbox import InboxRecords
from chatbot.records import now, storable


@dataclass(frozen=True, slots=True)
class PersonalRecord:
    """One thing the store knows about a person. `chat` is the name of a terminal chat, None elsewhere."""

    kind: Literal["message", "reply", "correction", "rating", "consent"]
    at: datetime
    text: str
    chat: str | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """How many texts were erased, and the models, newly tainted, that had learnt from one of them."""

    messages: int
    replies: int
    corrections: int
    tainted_models: tuple[str, ...]


class PeopleRecords(InboxRecords):
    """The part of the store that serves /consent, /mydata and /forget."""

    def consent(self, platform: str, chat: str, sender: str, given: bool, wording: str, how: str) -> None:
        """Add to the ledger: this person, in this chat and all its threads, lets the bot learn, or no longer.

        `wording` is the version of the text that was shown, `how` the act, such as "/consent yes". The latest counts.
        """
        with self._writing() as connection:
            connection.execute(
                insert(t.consent).values(
                    person_id=self._ensure_person(connection, platform, sender),
                    chat_id=self._ensure_chat(connection, platform, chat, None),
                    scope="train",
                    given=given,
                    wording=storable(wording),
                    how=storable(how),
                    at=now(),
                )
            )

    def my_data(self, platform: str, sender: str, chat: str | None = None) -> list[PersonalRecord]:
        """All that is kept of a person, or of the person in one chat, oldest first. Erased texts are not kept."""
        with self._reading() as connection:
            who = self._person_id(connection, platform, sender)
            if who is None:
                return []
            where = self._in_chat(platform, chat)
            asked = t.message.alias("asked")
            messages = select(t.message.c.created_at, t.message.c.text, t.chat.c.name).join_from(t.message, t.chat)
            found = [
                ("message", messages.where(t.message.c.person_id == who, t.message.c.deleted_at.is_(None))),
                (
                    "reply",
                    messages.join(asked, t.message.c.reply_to_id == asked.c.id).where(
                        asked.c.person_id == who, t.message.c.role == "bot", t.message.c.deleted_at.is_(None)
                    ),
                ),
                ("correction", _corrections(who)),
                ("rating", _ratings(who)),
                ("consent", _consents(who)),
            ]
            records = [
                PersonalRecord(kind, at, _shown(what), name)  # type: ignore[arg-type]  # the five literals above
                for kind, query in found
                for at, what, name in connection.execute(query.where(where))
            ]
        return sorted(records, key=lambda record: record.at)

    def forget(self, platform: str, sender: str, chat: str | None = None, message: str | None = None) -> Erasure:
        """Erase a person's words: everywhere on the platform, in one chat, or one message of theirs.

        With a message go the bot's replies to it and their corrections. `message` is the platform's and needs the
        chat. Models that learnt from an erased row, and all trained on from those, become tainted. The rows stay,
        empty, and the files hold the old text no longer; backups do.
        """
        if message is not None and chat is None:
            raise ValueError("a message's id says nothing without its chat")
        with self._writing() as connection:
            who = self._person_id(connection, platform, sender)
            if who is None:
                return Erasure(0, 0, 0, ())
            result = self._erase(connection, who, platform, chat, message)
        self._fold_log()
        return result

    def erase(self, platform: str, chat: str, message: str, thread: str | None = None) -> None:
        """Erase one message, by its platform's id, that was deleted there; whoever wrote it, answered or not."""
        with self._writing() as connection:
            here = self._chat_id(connection, platform, chat, thread)
            writers = [
                connection.scalar(
                    select(table.c.person_id).where(
                        table.c.chat_id == here, table.c.platform_message_id == storable(message)
                    )
                )
                for table in (t.message, t.inbox)
            ]
            who = next((person for person in writers if person is not None), None)
            if who is None:
                return
            self._erase(connection, who, platform, chat, message)
        self._fold_log()

    def _fold_log(self) -> None:
        """Erased text still stands in SQLite's write-ahead log: fold it in. Outside a transaction."""
        if self._engine.dialect.name == "sqlite":
            with self._reading() as connection:
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _in_chat(self, platform: str, chat: str | None) -> ColumnElement[bool]:
        """The condition on `chat` for one chat with all its threads, or for all chats of the platform."""
        here = t.chat.c.platform == platform
        return here if chat is None else here & (t.chat.c.key == self._chat_key(platform, chat))

    def _erase(self, connection: Connection, who: int, platform: str, chat: str | None, message: str | None) -> Erasure:
        at = now()
        where = t.message.c.chat_id.in_(select(t.chat.c.id).where(self._in_chat(platform, chat)))
        mine: ColumnElement[bool] = where & (t.message.c.person_id == who)
        if message is not None:
            mine &= t.message.c.platform_message_id == storable(message)
        waiting: ColumnElement[bool] = t.inbox.c.chat_id.in_(select(t.chat.c.id).where(self._in_chat(platform, chat)))
        waiting &= t.inbox.c.person_id == who
        if message is not None:
            waiting &= t.inbox.c.platform_message_id == storable(message)
        self._empty(connection, waiting)
        # The time of this erasure marks its rows: what is emptied together carries the same `deleted_at`.
        gone = select(t.message.c.id).where(t.message.c.deleted_at == at)
        emptied = {"text": "", "deleted_at": at}
        alive = t.message.c.deleted_at.is_(None)
        messages = connection.execute(update(t.message).where(mine, alive).values(emptied)).rowcount
        replies = connection.execute(
            update(t.message)
            .where(alive, t.message.c.role == "bot", t.message.c.reply_to_id.in_(gone))
            .values(emptied | {"detail": None})
        ).rowcount
        told: ColumnElement[bool] = t.correction.c.message_id.in_(gone)
        if message is None:
            told |= (t.correction.c.person_id == who) & t.correction.c.message_id.in_(
                select(t.message.c.id).where(where)
            )
        corrections = connection.execute(
            update(t.correction).where(t.correction.c.deleted_at.is_(None), told).values(emptied)
        ).rowcount
        connection.execute(update(t.shadow_reply).where(t.shadow_reply.c.message_id.in_(gone)).values(text=""))
        connection.execute(update(t.feedback).where(t.feedback.c.message_id.in_(gone)).values(text=None))
        connection.execute(
            insert(t.erasure).values(
                person_id=who,
                chat_id=None if chat is None else self._chat_id(connection, platform, chat, None),
                message_id=None if message is None else connection.scalar(gone.where(mine)),
                messages=messages,
                replies=replies,
                corrections=corrections,
                at=at,
            )
        )
        return Erasure(messages, replies, corrections, _taint(connection, at))


def _taint(connection: Connection, at: datetime) -> tuple[str, ...]:
    """Mark every model that saw a text erased at `at`, and every model trained on from one of these."""
    spoilt = connection.scalars(
        select(t.dataset_item.c.dataset_id)
        .where(
            or_(
                t.dataset_item.c.message_id.in_(select(t.message.c.id).where(t.message.c.deleted_at == at)),
                t.dataset_item.c.message_id.in_(
                    select(t.correction.c.message_id).where(t.correction.c.deleted_at == at)
                ),
            )
        )
        .distinct()
    ).all()
    models = connection.execute(select(t.model.c.id, t.model.c.parent_id, t.model.c.dataset_id, t.model.c.state)).all()
    tainted = {row.id for row in models if row.dataset_id in spoilt}
    while more := {row.id for row in models if row.parent_id in tainted} - tainted:
        tainted |= more
    new = tuple(sorted(row.id for row in models if row.id in tainted and row.state != "tainted"))
    connection.execute(update(t.model).where(t.model.c.id.in_(new)).values(state="tainted"))
    return new


def _corrections(who: int) -> Select[datetime, str, str | None]:
    return (
        select(t.correction.c.created_at, t.correction.c.text, t.chat.c.name)
        .join_from(t.correction, t.message)
        .join(t.chat, t.message.c.chat_id == t.chat.c.id)
        .where(t.correction.c.person_id == who, t.correction.c.deleted_at.is_(None))
    )


def _ratings(who: int) -> Select[datetime, int | None, str | None]:
    return (
        select(t.feedback.c.at, t.feedback.c.rating, t.chat.c.name)
        .join_from(t.feedback, t.message)
        .join(t.chat, t.message.c.chat_id == t.chat.c.id)
        .where(t.feedback.c.person_id == who)
    )


def _consents(who: int) -> Select[datetime, bool, str | None]:
    return (
        select(t.consent.c.at, t.consent.c.given, t.chat.c.name)
        .join_from(t.consent, t.chat)
        .where(t.consent.c.person_id == who)
    )


def _shown(value: object) -> str:
    """A text as it is, a rating as "+1" or "-1", a consent as "given" or "withdrawn"."""
    if isinstance(value, bool):
        return "given" if value else "withdrawn"
    return f"{value:+d}" if isinstance(value, int) else str(value)
