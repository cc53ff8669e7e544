"""The inbox: each message of a messenger followed from its arrival until its reply is out, over any crash.

A row goes through the states of docs/decisions/delivery.md, each committed when the call returns. The message and its
reply stand in it as long as something is left to do, with the platform's own ids; after that it holds no words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from chatbot import tables as t
from chatbot.messages import Message, Reply, Waiting
from chatbot.records import Records, now, storable

_UNFINISHED = ("received", "pending", "sending")
# Where a chat's own id tells nothing of a person, and is needed to read what was missed.
_ADDRESSED = {"discord"}
# Kept by what erases everything: it is that command, and holds no other words.
_ERASING = ("/forget", "／forget")


class InboxRecords(Records):
    """The part of the store that serves messengers."""

    def accept(self, message: Message) -> bool:
        """Commit a message as it came; False if the platform delivered it before."""
        with self._writing() as connection:
            chat = self._ensure_chat(connection, message.platform, message.chat, message.thread)
            number = storable(message.message_id)
            here = and_(t.inbox.c.chat_id == chat, t.inbox.c.platform_message_id == number)
            if connection.scalar(select(t.inbox.c.id).where(here)) is not None:
                return False
            connection.execute(
                insert(t.inbox).values(
                    chat_id=chat,
                    person_id=self._ensure_person(connection, message.platform, message.sender),
                    platform_message_id=number,
                    state="received",
                    envelope=_folded(message),
                    sent=[],
                    created_at=now(),
                )
            )
            if message.platform in _ADDRESSED:
                unknown = and_(t.chat.c.id == chat, t.chat.c.address.is_(None))
                connection.execute(update(t.chat).where(unknown).values(address=storable(message.chat)))
            return True

    def latest(self, message: Message) -> Message | None:
        """A message as it is by now: edited, or None if it was erased before it was answered.

        What no messenger delivered is given back as it is.
        """
        with self._reading() as connection:
            row = connection.execute(
                select(t.inbox.c.state, t.inbox.c.envelope).where(self._inbox_row(message))
            ).one_or_none()
        if row is None or row.state != "received":
            return message
        return None if row.envelope is None else replace(message, text=_unfolded(message.platform, row.envelope).text)

    def answered(self, message: Message, reply: Reply) -> None:
        """Commit a reply that is stored nowhere else, such as a command's, as the next thing to send."""
        with self._writing() as connection:
            connection.execute(
                update(t.inbox)
                .where(self._inbox_row(message), t.inbox.c.state.in_(_UNFINISHED))
                .values(state="pending", reply=_reply_folded(reply), envelope=_folded(replace(message, text="")))
            )

    def waiting(self, platform: str) -> list[Waiting]:
        """What earlier starts accepted and did not finish, oldest first."""
        i = t.inbox
        with self._reading() as connection:
            rows = connection.execute(
                select(i.c.state, i.c.envelope, i.c.reply, i.c.reply_id, i.c.sent)
                .join_from(i, t.chat)
                .where(t.chat.c.platform == platform, i.c.state.in_(_UNFINISHED), i.c.envelope.is_not(None))
                .order_by(i.c.id)
            ).all()
        return [
            Waiting(
                _unfolded(platform, row.envelope),
                None if row.reply is None else Reply(**json.loads(row.reply), id=row.reply_id),
                row.state,
                tuple(row.sent),
            )
            for row in rows
        ]

    def delivering(self, message: Message, state: str, ids: Sequence[str] | None = None) -> None:
        """Commit how far a reply has come; `ids` are the platform's of the parts that are out, None: as before.

        ``sent``, ``failed`` and ``unknown`` are the end: the words are emptied.
        """
        changes: dict[str, object] = {"state": state}
        if ids is not None:
            changes["sent"] = list(ids)
        if state not in _UNFINISHED:
            changes |= {"envelope": None, "reply": None}
        with self._writing() as connection:
            here = self._inbox_row(message)
            connection.execute(update(t.inbox).where(here).values(changes))
            reply = select(t.inbox.c.reply_id).where(here, t.inbox.c.reply_id.is_not(None))
            connection.execute(update(t.message).where(t.message.c.id.in_(reply)).values(delivery=state))

    def edit(self, message: Message) -> None:
        """Commit the new text of an earlier message, answered or not; nothing for one that is erased or unknown."""
        m = t.message
        with self._writing() as connection:
            chat = self._chat_id(connection, message.platform, message.chat, message.thread)
            connection.execute(
                update(m)
                .where(m.c.chat_id == chat, m.c.platform_message_id == storable(message.message_id))
                .where(m.c.role == "user", m.c.deleted_at.is_(None), m.c.text != storable(message.text))
                .values(text=storable(message.text), edited_at=now())
            )
            here = and_(self._inbox_row(message), t.inbox.c.state == "received")
            envelope = connection.scalar(select(t.inbox.c.envelope).where(here))
            if envelope is not None:
                kept = replace(_unfolded(message.platform, envelope), text=message.text)
                connection.execute(update(t.inbox).where(here).values(envelope=_folded(kept)))

    def move(self, platform: str, old_chat: str, new_chat: str) -> None:
        """Give a chat, with all its threads, its new id; if that is in use already, the two become one."""
        old, new = self._chat_key(platform, old_chat), self._chat_key(platform, new_chat)
        with self._writing() as connection:
            threads = connection.execute(
                select(t.chat.c.id, t.chat.c.thread, t.chat.c.context_start).where(
                    t.chat.c.platform == platform, t.chat.c.key == old
                )
            ).all()
            for row in threads:
                self._readdress(connection, platform, row.id, new_chat)
                target = self._chat_id(connection, platform, new_chat, row.thread)
                if target is None:
                    connection.execute(update(t.chat).where(t.chat.c.id == row.id).values(key=new))
                else:
                    _merge(connection, row.id, target)

    def newest(self, platform: str, chat: str) -> str | None:
        """The largest number among the ids of the messages accepted in a chat and its threads."""
        number = t.inbox.c.platform_message_id
        with self._reading() as connection:
            return connection.scalar(
                select(number)
                .join_from(t.inbox, t.chat)
                .where(t.chat.c.platform == platform, t.chat.c.key == self._chat_key(platform, chat))
                .where(number.between("0", "9" * 255))
                .order_by(func.length(number).desc(), number.desc())
                .limit(1)
            )

    def chats(self, platform: str) -> list[str]:
        """The platform's own ids of the chats known there, where they are kept."""
        query = select(t.chat.c.address).where(t.chat.c.platform == platform, t.chat.c.address.is_not(None)).distinct()
        with self._reading() as connection:
            return [str(address) for address in connection.scalars(query)]

    def is_newcomer(self, message: Message) -> bool:
        """Whether a messenger's message is the first of its writer, in its chat with all threads, to get a reply."""
        i = t.inbox
        with self._reading() as connection:
            mine = connection.execute(select(i.c.id, i.c.person_id).where(self._inbox_row(message))).one_or_none()
            if mine is None:
                return False
            replied = (
                select(i.c.id)
                .join_from(i, t.chat)
                .where(i.c.person_id == mine.person_id, i.c.id < mine.id, i.c.state.not_in(("received", "failed")))
                .where(t.chat.c.platform == message.platform)
                .where(t.chat.c.key == self._chat_key(message.platform, message.chat))
            )
            return connection.scalar(replied.limit(1)) is None

    def _answered_with(self, connection: Connection, message_ids: Sequence[int]) -> None:
        """The messages in these rows are answered by the reply to a later one: nothing is left to do for them."""
        m, i = t.message, t.inbox
        for message_id in message_ids:
            row = connection.execute(select(m.c.chat_id, m.c.platform_message_id).where(m.c.id == message_id)).one()
            here = and_(i.c.chat_id == row.chat_id, i.c.platform_message_id == row.platform_message_id)
            connection.execute(update(i).where(here).values(state="sent", envelope=None, reply=None))

    def _pending(self, connection: Connection, message_id: int, reply_id: int, reply: Reply) -> None:
        """The reply that stands in row `reply_id` is the next thing to send, if a messenger delivered the message."""
        asked = select(t.message.c.chat_id, t.message.c.platform_message_id).where(t.message.c.id == message_id)
        row = connection.execute(asked).one()
        here = and_(t.inbox.c.chat_id == row.chat_id, t.inbox.c.platform_message_id == row.platform_message_id)
        done = connection.execute(
            update(t.inbox)
            .where(here, t.inbox.c.state.in_(_UNFINISHED))
            .values(state="pending", reply=_reply_folded(reply), reply_id=reply_id)
        )
        if done.rowcount:
            connection.execute(update(t.message).where(t.message.c.id == reply_id).values(delivery="pending"))

    def _empty(self, connection: Connection, rows: ColumnElement[bool]) -> None:
        """Take the words out of rows that are not done with, which ends those; a command to forget is left to it."""
        i = t.inbox
        found = connection.execute(select(i.c.id, i.c.envelope).where(rows, i.c.envelope.is_not(None))).all()
        gone = [row.id for row in found if not json.loads(row.envelope)["text"].lstrip().startswith(_ERASING)]
        emptied: dict[str, object] = {"envelope": None, "reply": None, "sent": []}
        connection.execute(update(i).where(i.c.id.in_(gone)).values(emptied))

    def _inbox_row(self, message: Message) -> ColumnElement[bool]:
        """The condition on `inbox` for the row of a message."""
        chat = select(t.chat.c.id).where(
            t.chat.c.platform == message.platform,
            t.chat.c.key == self._chat_key(message.platform, message.chat),
            t.chat.c.thread == storable(message.thread or ""),
        )
        return and_(
            t.inbox.c.chat_id == chat.scalar_subquery(),
            t.inbox.c.platform_message_id == storable(message.message_id),
        )

    def _readdress(self, connection: Connection, platform: str, chat: int, new_chat: str) -> None:
        """What still waits in a chat is answered under its new id."""
        i = t.inbox
        waiting = connection.execute(select(i.c.id, i.c.envelope).where(i.c.chat_id == chat, i.c.envelope.is_not(None)))
        for row in waiting.all():
            moved = replace(_unfolded(platform, row.envelope), chat=new_chat)
            connection.execute(update(i).where(i.c.id == row.id).values(envelope=_folded(moved)))


def _merge(connection: Connection, old: int, new: int) -> None:
    """Let all rows of one chat be another's. Platform ids that the other has, too, stay with the old chat's row."""
    for table in (t.message, t.inbox):
        numbers = table.c.platform_message_id
        taken = select(numbers).where(table.c.chat_id == new, numbers.is_not(None))
        free = or_(numbers.is_(None), numbers.not_in(taken))
        connection.execute(update(table).where(table.c.chat_id == old, free).values(chat_id=new))
    connection.execute(update(t.consent).where(t.consent.c.chat_id == old).values(chat_id=new))


def _folded(message: Message) -> str:
    fields = asdict(message) | {"sent_at": message.sent_at.isoformat()}
    del fields["platform"]
    return storable(json.dumps(fields, ensure_ascii=False))


def _unfolded(platform: str, envelope: str) -> Message:
    fields: dict[str, Any] = json.loads(envelope)
    return Message(platform=platform, **fields | {"sent_at": datetime.fromisoformat(fields["sent_at"])})


def _reply_folded(reply: Reply) -> str:
    """What is needed to send a reply; what produced it stands in its own row."""
    fields = {"text": reply.text, "model_id": reply.model_id, "engine": reply.engine, "detail": reply.detail}
    return storable(json.dumps(fields, ensure_ascii=False))
