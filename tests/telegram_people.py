"""Telegram's objects as its Bot API writes them in JSON: people, chats, messages with their entities.

Built from plain words, so that tests say what happens; offsets and lengths are counted in UTF-16 code units.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
_MARKS = re.compile(r"(?P<bot_command>(?<![\w/])/[A-Za-z0-9_]+(?:@\w+)?)|(?P<mention>(?<!\w)@[A-Za-z0-9_]{4,})")
ANONYMOUS_ADMIN = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}


def units(text: str) -> int:
    """The length of a text in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def person(number: int, name: str = "Ann", language: str | None = "en", *, is_bot: bool = False) -> Json:
    """A user."""
    user: Json = {"id": number, "is_bot": is_bot, "first_name": name}
    return user | ({"language_code": language} if language else {})


def marked(text: str) -> list[Json]:
    """The entities that the server finds in a text by itself: commands and mentions."""
    return [
        {"type": str(match.lastgroup), "offset": units(text[: match.start()]), "length": units(match[0])}
        for match in _MARKS.finditer(text)
    ]


@dataclass
class Chat:
    """A chat as the server keeps it: what the bot may do there, and all its messages by number.

    `refusal` is the error code and text of every call that names it; `moved_to` the id of the supergroup it became.
    """

    number: int
    kind: str = "private"
    is_forum: bool = False
    refusal: tuple[int, str] | None = None
    moved_to: int | None = None
    topics: set[int] = field(default_factory=set)
    closed_topics: set[int] = field(default_factory=set)
    messages: dict[int, Json] = field(default_factory=dict)

    def json(self) -> Json:
        """The chat as it stands in a message."""
        if self.kind == "private":
            return {"id": self.number, "type": "private", "first_name": "Ann"}
        forum = {"is_forum": True} if self.is_forum else {}
        return {"id": self.number, "type": self.kind, "title": "Friends", **forum}

    def add(self, sender: Json | None, thread: int | None = None, reply_to: int | None = None, **content: Any) -> Json:
        """A new message; `content` is what makes it a text, a photo or a service message."""
        message: Json = {"message_id": max(self.messages, default=0) + 1, "date": int(time.time()), "chat": self.json()}
        if sender is not None:
            message["from"] = sender
        if thread is not None:
            message |= {"message_thread_id": thread, "is_topic_message": True}
        if reply_to in self.messages:
            message["reply_to_message"] = {k: v for k, v in self.messages[reply_to].items() if k != "reply_to_message"}
        elif thread in self.messages:
            # So does Telegram: in a topic, what answers nothing "answers" the message that opened it.
            message["reply_to_message"] = self.messages[thread]
        message |= content
        if entities := marked(message.get("text", "")):
            message.setdefault("entities", entities)
        self.messages[message["message_id"]] = message
        return message
