"""The log of all conversations: `ConversationStore`, the only SQL there is.

In go messages, replies, ratings and corrections, each committed when the call returns; out come histories and counts.
The calls for people's rights are in `chatbot.rights`, those for messengers in `chatbot.inbox`, those for training in
`chatbot.learning`, those for looking things up in `chatbot.search`; this class has all.
It knows no platform and no model. The schema is `chatbot.schema`'s business: bring it up to date first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, select, update

from chatbot import tables as t
from chatbot.archive import ArchiveRecords
from chatbot.imports import ImportRecords
from chatbot.learning import LearningRecords
from chatbot.messages import Message, Reply
from chatbot.pairs import is_talk
from chatbot.records import new_id, now, storable
from chatbot.rights import PeopleRecords
from chatbot.search import SearchRecords
from chatbot.turns import ROWS_PER_TURN, merge_turns


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """The row of a message. `fresh` is False if the platform delivered it before; nothing was written then."""

    id: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the store holds. Chats and messages (people's) by platform, replies by model."""

    chats: Mapping[str, int]
    messages: Mapping[str, int]
    replies: Mapping[str, int]
    liked: int
    disliked: int
    corrections: int


class ConversationStore(PeopleRecords, LearningRecords, ImportRecords, ArchiveRecords, SearchRecords):
    """See the module. `url` is a SQLAlchemy url, `sqlite://` for memory only; `key` that of `chatbot.identity`.

    Every method may be called from any thread and raises DatabaseError when the database cannot be used.
    """

    def record_message(self, message: Message) -> StoredMessage:
        """Commit what a person wrote, before any work on it. The same platform ids again change nothing."""
        with self._writing() as connection:
            chat = self._ensure_chat(connection, message.platform, message.chat, message.thread)
            known = self._find(connection, chat, message.message_id)
            if known is not None:
                return StoredMessage(known, fresh=False)
            row = insert(t.message).values(
                chat_id=chat,
                person_id=self._ensure_person(connection, message.platform, message.sender),
                platform_message_id=storable(message.message_id),
                reply_to_id=None if message.reply_to is None else self._find(connection, chat, message.reply_to),
                role="user",
                text=storable(message.text),
                context_start=connection.scalar(select(t.chat.c.context_start).where(t.chat.c.id == chat)),
                created_at=message.sent_at,
            )
            return StoredMessage(new_id(connection, row), fresh=True)

    def record_reply(self, message_id: int, reply: Reply, notice: str = "", merged: Sequence[int] = ()) -> int:
        """Commit the reply to a message with all that produced it, in one transaction; the id of its row.

        `notice` is sent before it and not kept; the messages in the rows `merged` are answered by it, too.
        """
        with self._writing() as connection:
            asked = connection.execute(
                select(t.message.c.chat_id, t.message.c.context_start).where(t.message.c.id == message_id)
            ).one()
            row = insert(t.message).values(
                chat_id=asked.chat_id,
                reply_to_id=message_id,
                role="bot",
                text=storable(reply.text),
                context_start=asked.context_start,
                created_at=now(),
                engine=reply.engine,
                model_id=reply.model_id,
                decode_json=dict(reply.settings),
                seed=reply.seed,
                latency_ms=reply.duration_ms,
                score=reply.score,
                detail=None if reply.detail is None else storable(reply.detail),
            )
            reply_id = new_id(connection, row)
            self._pending(connection, message_id, reply_id, replace(reply, text=notice + reply.text))
            self._answered_with(connection, merged)
            return reply_id

    def stored_reply(self, message_id: int) -> Reply | None:
        """The reply already recorded for a message, for a redelivery of it; None if it still has to be answered."""
        with self._reading() as connection:
            m = t.message
            row = connection.execute(
                select(m).where(m.c.reply_to_id == message_id, m.c.role == "bot").order_by(m.c.id).limit(1)
            ).first()
        if row is None:
            return None
        return Reply(
            text=row.text,
            model_id=row.model_id,
            engine=row.engine,
            score=row.score,
            duration_ms=row.latency_ms,
            settings=row.decode_json,
            seed=row.seed,
            detail=row.detail,
            id=row.id,
        )

    def history(self, message_id: int, turns: int) -> list[str]:
        """What was said before a message: at most `turns` turns, oldest first, alternating, the bot's turn last.

        Corrections stand in for what the bot said; nothing from before the last reset, nothing erased. Looks at a
        bounded number of rows by an index, however long the log is.
        """
        m = t.message
        with self._reading() as connection:
            asked = connection.execute(select(m.c.chat_id, m.c.context_start).where(m.c.id == message_id)).one()
            taught = (
                select(t.correction.c.text)
                .where(t.correction.c.message_id == m.c.id, t.correction.c.deleted_at.is_(None))
                .order_by(t.correction.c.id.desc())
                .limit(1)
            )
            rows = connection.execute(
                select(m.c.id, m.c.role, func.coalesce(taught.scalar_subquery(), m.c.text))
                .where(m.c.chat_id == asked.chat_id, m.c.id > asked.context_start, m.c.id < message_id)
                .where(m.c.deleted_at.is_(None), m.c.text != "", is_talk())
                .order_by(m.c.id.desc())
                .limit(turns * ROWS_PER_TURN)
            ).all()
        said = merge_turns((role == "bot", text, row_id) for row_id, role, text in reversed(rows))
        if said and not said[-1].own:
            said.pop()  # Never answered.
        return [turn.text for turn in said[max(0, len(said) - turns) :]]

    def reset(self, platform: str, chat: str, thread: str | None = None) -> None:
        """Talk in this chat starts anew: nothing said so far is in any later history. Nothing is deleted."""
        with self._writing() as connection:
            found = self._chat_id(connection, platform, chat, thread)
            last = select(func.coalesce(func.max(t.message.c.id), 0)).where(t.message.c.chat_id == found)
            connection.execute(update(t.chat).where(t.chat.c.id == found).values(context_start=last.scalar_subquery()))

    def rate(self, platform: str, chat: str, sender: str, rating: int, thread: str | None = None) -> bool:
        """A person's +1 or -1 for the last reply in the chat, in place of an earlier one; False if there is none."""
        with self._writing() as connection:
            reply = self._last_reply(connection, platform, chat, thread)
            if reply is None:
                return False
            self._rate(connection, reply, self._ensure_person(connection, platform, sender), rating)
            return True

    def rate_reply(self, platform: str, chat: str, sender: str, reply_id: int, rating: int) -> str | None:
        """A person's +1 or -1 for the reply in a row; its text, or None if there is no such reply in this chat."""
        m = t.message
        with self._writing() as connection:
            text = connection.scalar(
                select(m.c.text)
                .join_from(m, t.chat)
                .where(self._in_chat(platform, chat), m.c.id == reply_id, m.c.role == "bot", m.c.deleted_at.is_(None))
            )
            if text is not None:
                self._rate(connection, reply_id, self._ensure_person(connection, platform, sender), rating)
            return text

    def teach(self, platform: str, chat: str, sender: str, text: str, thread: str | None = None) -> bool:
        """What the last reply in the chat should have been; the latest counts. False if there is no reply."""
        with self._writing() as connection:
            reply = self._last_reply(connection, platform, chat, thread)
            if reply is None:
                return False
            person = self._ensure_person(connection, platform, sender)
            row = {"message_id": reply, "person_id": person, "text": storable(text), "created_at": now()}
            connection.execute(insert(t.correction).values(row))
            return True

    def knows_chat(self, platform: str, chat: str, thread: str | None = None) -> bool:
        """Whether anything was ever written there: somebody new is told first what is kept."""
        with self._reading() as connection:
            return self._chat_id(connection, platform, chat, thread) is not None

    def latest_chat(self, platform: str) -> str | None:
        """The name of the chat last written in; None if there is none, or if the platform's chats have no names."""
        last = select(func.max(t.message.c.id)).where(t.message.c.chat_id == t.chat.c.id).scalar_subquery()
        query = select(t.chat.c.name).where(t.chat.c.platform == platform, t.chat.c.name.is_not(None))
        with self._reading() as connection:
            return connection.scalar(query.where(last.is_not(None)).order_by(last.desc()).limit(1))

    def stats(self) -> StoreStats:
        """Counts of everything. What of it may be learnt from, only `learnable_pairs` can tell, row by row."""
        m = t.message
        by_platform = select(t.chat.c.platform, func.count()).group_by(t.chat.c.platform)
        with self._reading() as connection:
            chats = _counts(connection, by_platform)
            messages = _counts(connection, by_platform.join_from(m, t.chat).where(m.c.role == "user"))
            replies = _counts(
                connection, select(m.c.model_id, func.count()).where(m.c.role == "bot").group_by(m.c.model_id)
            )
            ratings = _counts(connection, select(t.feedback.c.rating, func.count()).group_by(t.feedback.c.rating))
            corrections = connection.scalar(
                select(func.count()).select_from(t.correction).where(t.correction.c.deleted_at.is_(None))
            )
        return StoreStats(
            chats=chats,
            messages=messages,
            replies=replies,
            liked=ratings.get(1, 0),
            disliked=ratings.get(-1, 0),
            corrections=corrections or 0,
        )

    def _rate(self, connection: Connection, reply: int, person: int, rating: int) -> None:
        f = t.feedback
        mine = and_(f.c.message_id == reply, f.c.person_id == person)
        if not connection.execute(update(f).where(mine).values(rating=rating, at=now())).rowcount:
            row = {"message_id": reply, "person_id": person, "rating": rating, "at": now()}
            connection.execute(insert(f).values(row))

    def _find(self, connection: Connection, chat: int, platform_message_id: str) -> int | None:
        here: ColumnElement[bool] = t.message.c.chat_id == chat
        return connection.scalar(
            select(t.message.c.id).where(here, t.message.c.platform_message_id == storable(platform_message_id))
        )

    def _last_reply(self, connection: Connection, platform: str, chat: str, thread: str | None) -> int | None:
        """The bot's last reply that is still there and still in the talk."""
        m = t.message
        return connection.scalar(
            select(m.c.id)
            .join_from(m, t.chat)
            .where(m.c.chat_id == self._chat_id(connection, platform, chat, thread), m.c.role == "bot")
            .where(m.c.id > t.chat.c.context_start, m.c.deleted_at.is_(None), is_talk())
            .order_by(m.c.id.desc())
            .limit(1)
        )


def _counts(connection: Connection, query: Select[*tuple[Any, ...]]) -> dict[Any, int]:
    return {row[0]: row[1] for row in connection.execute(query)}
