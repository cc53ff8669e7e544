"""What an update means to us: pure translation, from python-telegram-bot's objects to values of ours.

In goes an update and who the bot is, out comes one of the events below, or None for what is none of the bot's
business: other bots, channels, service messages, talk in a group that is not addressed to it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from telegram import Chat, MessageEntity, Update, User
from telegram import Message as TelegramMessage

from adapters.telegram_menu import KNOWN
from chatbot.messages import Message

PLATFORM = "telegram"
_COMMAND = re.compile(r"/(?P<name>[A-Za-z0-9_]{1,64})(?:@(?P<bot>\w+))?(?=\s|$)")
_FEEDBACK = re.compile(r"fb:(?P<id>[0-9]{1,18}):(?P<sign>[+-])")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what databases refuse
_MENTIONS = {MessageEntity.MENTION, MessageEntity.TEXT_MENTION}
# What people send in place of words.
_WORDLESS = (
    *("animation", "audio", "checklist", "contact", "dice", "document", "game", "live_photo", "location", "paid_media"),
    *("photo", "poll", "sticker", "story", "venue", "video", "video_note", "voice"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody wrote to the bot."""

    message: Message


@dataclass(frozen=True, slots=True)
class Wordless:
    """Somebody sent what is no text of their own; `album` is the same for what belongs together."""

    message: Message
    language: str | None
    album: str


@dataclass(frozen=True, slots=True)
class Edited:
    """An earlier message has a new text. It may not be known."""

    message: Message


@dataclass(frozen=True, slots=True)
class Moved:
    """A group became a supergroup and has a new id."""

    old_chat: str
    new_chat: str


@dataclass(frozen=True, slots=True)
class Pressed:
    """Somebody pressed a button: `message` stands for the press, its text is empty. 0 for buttons that are not ours."""

    query_id: str
    message: Message
    reply_id: int
    rating: int


Event = Said | Wordless | Edited | Moved | Pressed


def read(update: Update, me: User, *, ambient: bool = False) -> Event | None:
    """The event in an update; `ambient` takes all talk in groups as addressed to the bot."""
    if update.callback_query is not None:
        return _pressed(update)
    if update.message is not None:
        return _migration(update.message) or _said(update.message, me, ambient)
    if update.edited_message is not None:
        return _edited(update.edited_message, me)
    return None


def completed(raw: Any) -> Any:
    """An update as JSON with what the library insists on and we can do without, where a server has left it out."""
    if not isinstance(raw, dict):
        return raw
    whole = dict(raw)
    for kind in ("message", "edited_message"):
        if isinstance(raw.get(kind), dict):
            whole[kind] = _completed_message(raw[kind])
    query = raw.get("callback_query")
    if isinstance(query, dict):
        whole["callback_query"] = {"chat_instance": "", **query}
        for kind, complete in (("from", _completed_person), ("message", _completed_message)):
            if isinstance(query.get(kind), dict):
                whole["callback_query"][kind] = complete(query[kind])
    return whole


def _completed_message(message: dict[str, Any]) -> dict[str, Any]:
    whole = {"date": int(time.time()), **message}
    chat = message.get("chat")
    if isinstance(chat, dict) and isinstance(chat.get("id"), int):
        whole["chat"] = {"type": Chat.PRIVATE if chat["id"] > 0 else Chat.GROUP, **chat}
        if whole["chat"]["type"] == Chat.PRIVATE:  # which has the number of the person
            whole.setdefault("from", {"id": chat["id"]})
    if isinstance(whole.get("from"), dict):
        whole["from"] = _completed_person(whole["from"])
    if isinstance(message.get("reply_to_message"), dict):
        whole["reply_to_message"] = _completed_message(message["reply_to_message"])
    return whole


def _completed_person(person: dict[str, Any]) -> dict[str, Any]:
    return {"is_bot": False, "first_name": "", **person}


def _pressed(update: Update) -> Pressed | None:
    query = update.callback_query
    if query is None:
        return None
    wanted = _FEEDBACK.fullmatch(query.data or "")
    message = Message(
        platform=PLATFORM,
        # Without a message the button hangs on something that was sent by way of another chat: never one of ours.
        chat=str(query.message.chat.id) if query.message else "",
        sender=str(query.from_user.id),
        text="",
        message_id=str(query.message.message_id) if query.message else "",
        sent_at=datetime.now(UTC),  # Telegram does not say when a button was pressed
    )
    if wanted is None or query.message is None:
        return Pressed(query.id, message, 0, 0)
    return Pressed(query.id, message, int(wanted["id"]), 1 if wanted["sign"] == "+" else -1)


def _migration(message: TelegramMessage) -> Moved | None:
    """Told twice by Telegram: by the last message of the old chat, and by the first of the new one."""
    if message.migrate_to_chat_id:
        return Moved(str(message.chat.id), str(message.migrate_to_chat_id))
    if message.migrate_from_chat_id:
        return Moved(str(message.migrate_from_chat_id), str(message.chat.id))
    return None


def _person(message: TelegramMessage) -> User | None:
    """The person who wrote a message. Nobody for channels, anonymous admins and whatever else speaks for a chat."""
    sender = message.from_user
    if sender is None or sender.is_bot or message.sender_chat is not None or message.chat.type == Chat.CHANNEL:
        return None
    return sender


def _said(message: TelegramMessage, me: User, ambient: bool) -> Said | Wordless | None:
    sender = _person(message)
    if sender is None:
        return None
    private = message.chat.type == Chat.PRIVATE
    other = _replied_to(message)
    answers_us = other is not None and other.from_user == me
    text, named = _without_mention(message.text or "", message.entities, me)
    addressed = private or ambient or answers_us or named
    command = _COMMAND.match(text)
    if command is not None:
        if (command["bot"] or me.username or "").casefold() != (me.username or "").casefold():
            return None
        # A bare /weather in a group is for some other bot.
        addressed = addressed or command["bot"] is not None or command["name"].lower() in KNOWN
        text = f"/{command['name']}{text[command.end() :]}"
        # What the link t.me/<bot>?start=consent sends.
        text = "/consent" if text.split() == ["/start", "consent"] else text
    if message.text and not _of_somebody_else(message, sender):
        return Said(_ours(message, sender, text)) if addressed else None
    if not message.text and not any(getattr(message, kind, None) for kind in _WORDLESS):
        return None  # a service message
    _, named = _without_mention(message.caption or "", message.caption_entities, me)
    album = message.media_group_id or str(message.message_id)
    wordless = Wordless(_ours(message, sender, ""), sender.language_code, album)
    return wordless if addressed or named else None


def _edited(message: TelegramMessage, me: User) -> Edited | None:
    sender = _person(message)
    if sender is None or not message.text:
        return None
    return Edited(_ours(message, sender, _without_mention(message.text, message.entities, me)[0]))


def _of_somebody_else(message: TelegramMessage, sender: User) -> bool:
    """Whether the words are another's: forwarded, or made by another bot. Nobody could agree to learning from them."""
    origin = message.forward_origin
    return message.via_bot is not None or (origin is not None and getattr(origin, "sender_user", None) != sender)


def _replied_to(message: TelegramMessage) -> TelegramMessage | None:
    """The message that this one answers; in a topic, not the one that opened it, which Telegram names otherwise."""
    other = message.reply_to_message
    return None if other is None or other.forum_topic_created is not None else other


def _ours(message: TelegramMessage, sender: User, text: str) -> Message:
    other = _replied_to(message)
    return Message(
        platform=PLATFORM,
        chat=str(message.chat.id),
        sender=str(sender.id),
        text=_NO_TEXT.sub("\ufffd", text),
        message_id=str(message.message_id),
        sent_at=message.date,
        reply_to=None if other is None else str(other.message_id),
        # Other messages have a thread id, too: of the chain of replies they stand in, which is no topic.
        thread=str(message.message_thread_id) if message.is_topic_message else None,
    )


def _without_mention(text: str, entities: tuple[MessageEntity, ...], me: User) -> tuple[str, bool]:
    """`text` without mentions of the bot, and whether there was one; a text that is nothing else stays as it is.

    By entity, since only those are mentions; their offsets count UTF-16 code units.
    """
    units = text.encode("utf-16-le", "surrogatepass")
    kept, at, found = [], 0, False
    for entity in entities:
        start, end = 2 * entity.offset, 2 * (entity.offset + entity.length)
        if entity.type not in _MENTIONS or not at <= start < end <= len(units):
            continue
        name = units[start:end].decode("utf-16-le", "replace")
        if entity.user == me if entity.user else name.casefold() == f"@{me.username}".casefold():
            kept.append(units[at:start])
            at, found = end, True
    if not found:
        return text, False
    pieces = [piece.decode("utf-16-le", "surrogatepass") for piece in (*kept, units[at:])]
    rest = pieces[0]
    for piece in pieces[1:]:
        # "hi @bot there" is "hi there", and "@bot, hi" is "hi".
        rest += piece.lstrip() if rest[-1:].isspace() else piece if rest else piece.lstrip(" ,:;，：")
    return rest.strip() or text, True
