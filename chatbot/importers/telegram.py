"""What Telegram Desktop exports as JSON: one chat (`messages`), or a whole account (`chats.list`, `left_chats.list`).

People and chats get the ids that a bot sees, so that who writes /forget or /consent no to the bot is found here, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from chatbot.importers.files import chunks
from chatbot.importers.jsonstream import Broken, Found, JsonStream
from chatbot.importers.records import Item, Said, Skipped, Source

_LISTS = (("chats",), ("left_chats",))
_OPENED = frozenset(
    {(), ("messages",)}
    | {(*list_, *more) for list_ in _LISTS for more in ((), ("list",), ("list", "*"), ("list", "*", "messages"))}
)
_ENTRY = r'\{\s*"id"\s*:\s*-?\d+\s*,\s*"type"\s*:'
# How a bot numbers chats: groups below zero, supergroups and channels below -1000000000000.
_SUPERGROUPS = ("supergroup", "channel")


def looks(head: str) -> bool:
    """Whether a file that begins so is such an export."""
    start = head.lstrip()
    return start.startswith("{") and (
        ('"messages"' in start and ('"date_unixtime"' in start or '"from_id"' in start))
        or '"chats"' in start
        or '"personal_information"' in start
    )


def read(source: Source) -> Iterator[Item]:
    """Stream the messages of all chats in the file."""
    chat: dict[str, Any] = {}
    stream = JsonStream(chunks(source.path), _OPENED, _ENTRY)
    try:
        for found in stream.walk():
            if found.path[-1:] == ("*",) and found.path[-2:-1] == ("messages",):
                source.dialect = "one chat" if len(found.path) == 2 else "a whole account"
                yield _item(found, chat)
            elif found.path:
                chat[found.path[-1]] = found.value  # what a chat is stands before its messages
    except Broken as broken:
        yield Skipped(broken.line, broken.reason)


def _item(found: Found, chat: Mapping[str, Any]) -> Item:
    said, line = found.value, found.line
    if found.wrong is not None:
        return Skipped(line, found.wrong)
    if not isinstance(said, dict):
        return Skipped(line, "not a message")
    if said.get("type") == "service":
        return Skipped(line, "service message", bad=False)
    kind, number, sender = chat.get("type"), chat.get("id"), said.get("from_id")
    if "forwarded_from" in said:
        return Skipped(line, "forwarded: somebody else's words", bad=False)
    if "via_bot" in said or (kind == "bot_chat" and sender == f"user{number}"):
        return Skipped(line, "a bot's words", bad=False)
    text = _text(said.get("text"))
    if text is None:
        return Skipped(line, "no text where one should be")
    if not text.strip():
        return Skipped(line, "no words", bad=False)
    if not _is_id(said.get("id")) or not _is_id(number):
        return Skipped(line, "no id of the message or its chat")
    if sender is None and not isinstance(said.get("from"), str):
        return Skipped(line, "no sender")
    moment = _moment(said)
    if moment is None:
        return Skipped(line, "no date")
    everywhere = str(kind).endswith(_SUPERGROUPS)
    reply_to = said.get("reply_to_message_id")
    if "reply_to_peer_id" in said or not _is_id(reply_to):
        reply_to = None  # to something in another chat
    # In groups that are no supergroups each account counts for itself, a bot in the same chat, too: told apart by time.
    return Said(
        chat=f"-100{number}" if everywhere else f"-{number}" if kind == "private_group" else str(number),
        speaker=str(sender).removeprefix("user") if sender is not None else f"name:{said['from']}",
        text=text,
        sent_at=moment,
        id=str(said["id"]) if everywhere else f"{said['id']}@own",
        reply_to=None if reply_to is None else str(reply_to) if everywhere else f"{reply_to}@own",
        line=line,
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and abs(value) < 2**63


def _text(value: object) -> str | None:
    """A text, or one in pieces with formats; None if it is neither."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in value]
    return "".join(part for part in parts if isinstance(part, str))


def _moment(said: Mapping[str, Any]) -> datetime | None:
    """When it was sent. Old exports have local time only, without a zone: that is taken as UTC."""
    try:
        if "date_unixtime" in said:
            return datetime.fromtimestamp(int(said["date_unixtime"]), UTC)
        moment = datetime.fromisoformat(said["date"])
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
