"""What people may ask of the store: consent given and withdrawn, their data shown, their words erased."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Select, exists, false, insert, or_, select, union, update

from chatbot import tables as t
from chatbot.inbox import InboxRecords
from chatbot.lineage import LineageRecords, taint, words_of
from chatbot.records import now, storable

_PAGE_ROWS = 1000  # that are emptied in one transaction


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


class PeopleRecords(InboxRecords, LineageRecords):
    """The part of the store that serves /consent, /mydata and /forget."""

    def consent(self, platform: str, chat: str, sender: str, given: bool, wording: str, how: str) -> tuple[str, ...]:
        """Add to the ledger: this person, in this chat and all its threads, lets the bot learn, or no longer.

        `wording` is the version of the text that was shown, `how` the act, such as "/consent yes". The latest counts.
        A withdrawal taints the models that learnt from this person's words there; returns those that it newly does.
        """
        with self._writing() as connection:
            who = self._ensure_person(connection, platform, sender)
            connection.execute(
                insert(t.consent).values(
                    person_id=who,
                    chat_id=self._ensure_chat(connection, platform, chat, None),
                    scope="train",
                    given=given,
                    wording=storable(wording),
                    how=storable(how),
                    at=now(),
                )
            )
            tainted = () if given else taint(connection, words_of(who, self._in_chat(platform, chat)))
        if not given:
            self.clean_copies()
        return tainted

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
            result, copied = self._erase(connection, who, platform, chat, message)
        if platform == "terminal" and self._copies is not None:
            self._copies.forget_typed()
        self._fold_log()
        if copied:
            self.clean_copies()
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
            _, copied = self._erase(connection, who, platform, chat, message)
        self._fold_log()
        if copied:
            self.clean_copies()

    def expire(self, before: datetime) -> Erasure:
        """Erase what was written before a moment, whoever wrote it. Nobody took it back, so no model is tainted."""
        m = t.message
        old = (m.c.created_at < before) & m.c.deleted_at.is_(None) & (m.c.role == "user")
        counts, after = (0, 0, 0), 0
        while True:
            with self._writing() as connection:
                self._empty(connection, t.inbox.c.created_at < before)
                query = select(m.c.id).where(old, m.c.id > after).order_by(m.c.id).limit(_PAGE_ROWS)
                page = connection.scalars(query).all()
                emptied = _emptied(connection, m.c.id.in_(page), now(), t.correction.c.created_at < before)
            counts = (counts[0] + emptied[0], counts[1] + emptied[1], counts[2] + emptied[2])
            if not page:
                break
            after = page[-1]
        if sum(counts):
            self._fold_log()
            self.clean_copies()
        return Erasure(*counts, ())

    def clean_copies(self) -> int:
        """Take what was erased or withdrawn out of the files that hold copies; how many changed."""
        return 0 if self._copies is None else len(self._copies.clean(self.taken_back))

    def _fold_log(self) -> None:
        """Erased text still stands in SQLite's write-ahead log: fold it in. Outside a transaction."""
        if self._engine.dialect.name == "sqlite":
            with self._reading() as connection:
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _in_chat(self, platform: str, chat: str | None) -> ColumnElement[bool]:
        """The condition on `chat` for one chat with all its threads, or for all chats of the platform."""
        here = t.chat.c.platform == platform
        return here if chat is None else here & (t.chat.c.key == self._chat_key(platform, chat))

    def _erase(
        self, connection: Connection, who: int, platform: str, chat: str | None, message: str | None
    ) -> tuple[Erasure, bool]:
        """What was erased, and whether some of it is in a data set."""
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
        told = (t.correction.c.person_id == who) & t.correction.c.message_id.in_(select(t.message.c.id).where(where))
        messages, replies, corrections = _emptied(connection, mine, at, told if message is None else false())
        if message is None:
            connection.execute(update(t.feedback).where(t.feedback.c.person_id == who).values(text=None))
        gone = select(t.message.c.id).where(t.message.c.deleted_at == at)
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
        words = union(gone, select(t.correction.c.message_id).where(t.correction.c.deleted_at == at))
        copied = connection.scalar(select(exists().where(t.dataset_item.c.message_id.in_(words))))
        return Erasure(messages, replies, corrections, taint(connection, words)), bool(copied)


def _emptied(
    connection: Connection, which: ColumnElement[bool], at: datetime, told: ColumnElement[bool]
) -> tuple[int, int, int]:
    """Take the words out of messages, the bot's replies to them, and what hangs on these; and of corrections `told`.

    How many messages, replies and corrections. What is emptied together carries the same `deleted_at`.
    """
    m, c = t.message, t.correction
    gone = select(m.c.id).where(m.c.deleted_at == at)
    emptied = {"text": "", "deleted_at": at}
    alive = m.c.deleted_at.is_(None)
    messages = connection.execute(update(m).where(which, alive).values(emptied)).rowcount
    replies = connection.execute(
        update(m).where(alive, m.c.role == "bot", m.c.reply_to_id.in_(gone)).values(emptied | {"detail": None})
    ).rowcount
    corrections = connection.execute(
        update(c).where(c.c.deleted_at.is_(None), or_(c.c.message_id.in_(gone), told)).values(emptied)
    ).rowcount
    connection.execute(update(t.shadow_reply).where(t.shadow_reply.c.message_id.in_(gone)).values(text=""))
    connection.execute(update(t.feedback).where(t.feedback.c.message_id.in_(gone)).values(text=None))
    waiting = t.review.c.message_id.in_(gone) & (t.review.c.state == "waiting")
    connection.execute(update(t.review).where(waiting).values(state="rejected", why="erased", at=at))
    return messages, replies, corrections


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
