"""What DiscordChatExporter writes as JSON: one channel a file, its messages in one array.

Discord forbids learning from what is said there without its permission. So these rows are stored as Discord's, and the
platform's rule in `learn.policy` holds for them, whatever is declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeGuard

from chatbot.importers.files import chunks
from chatbot.importers.jsonstream import Broken, Found, JsonStream
from chatbot.importers.records import Item, Said, Skipped, Source

_OPENED = frozenset({(), ("messages",)})
_ENTRY = r'\{\s*"id"\s*:\s*"\d+"\s*,\s*"type"\s*:'
_LONGEST_ID = 32
_SPOKEN = ("Default", "Reply", "ThreadStarterMessage")


def looks(head: str) -> bool:
    """Whether a file that begins so is such an export."""
    start = head.lstrip()
    return start.startswith("{") and '"guild"' in start and '"channel"' in start


def read(source: Source) -> Iterator[Item]:
    """Stream the channel's messages."""
    channel: object = None
    try:
        for found in JsonStream(chunks(source.path), _OPENED, _ENTRY).walk():
            if found.path == ("channel",):
                channel = found.value.get("id") if isinstance(found.value, dict) else None
            elif found.path == ("messages", "*"):
                yield _item(found, channel)
    except Broken as broken:
        yield Skipped(broken.line, broken.reason)


def _item(found: Found, channel: object) -> Item:
    said, line = found.value, found.line
    if found.wrong is not None:
        return Skipped(line, found.wrong)
    if not isinstance(said, dict) or not isinstance(said.get("author"), dict):
        return Skipped(line, "not a message")
    if said.get("type", "Default") not in _SPOKEN:
        return Skipped(line, "service message", bad=False)
    if said["author"].get("isBot"):
        return Skipped(line, "a bot's words", bad=False)
    if "forwardedMessage" in said and said["forwardedMessage"] is not None:
        return Skipped(line, "forwarded: somebody else's words", bad=False)
    text, number, sender = said.get("content"), said.get("id"), said["author"].get("id")
    if not isinstance(text, str):
        return Skipped(line, "no text where one should be")
    if not text.strip():
        return Skipped(line, "no words", bad=False)
    if not isinstance(channel, str) or not isinstance(sender, str) or not _is_id(number):
        return Skipped(line, "no id of the message, its channel or its author")
    moment = _moment(said.get("timestamp"))
    if moment is None:
        return Skipped(line, "no date")
    return Said(channel, sender, text, moment, number, _answered(said.get("reference")), line)


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= _LONGEST_ID


def _answered(reference: Any) -> str | None:
    found = reference.get("messageId") if isinstance(reference, dict) else None
    return found if _is_id(found) else None


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
