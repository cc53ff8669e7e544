"""Who may talk to the bot, and how much: values that the configuration fills and every messenger asks for.

People, chats, roles and guilds are written as their platform and its id, such as ``telegram:123456``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields

from chatbot.errors import UsageError

_ID = re.compile(r"[a-z][a-z0-9_]*:\S+")


@dataclass(frozen=True, slots=True)
class AccessList:
    """Some of those there are. A guild is what Discord calls a server."""

    users: tuple[str, ...] = ()
    chats: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    guilds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for item in fields(self):
            verify_ids(f"access: {item.name}", getattr(self, item.name))


@dataclass(frozen=True, slots=True)
class Access:
    """Who may talk. `block` outdoes `allow`, `admins` may always, whatever the limits; see `adapters.admission`."""

    allow: AccessList = field(default_factory=AccessList)
    block: AccessList = field(default_factory=AccessList)
    admins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        verify_ids("access: admins", self.admins)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many messages a minute are answered, on average; as many may come at once. 0 is no limit."""

    user_per_minute: int = 30
    chat_per_minute: int = 60

    def __post_init__(self) -> None:
        for name, value in (("user_per_minute", self.user_per_minute), ("chat_per_minute", self.chat_per_minute)):
            if not 0 <= value <= 10_000:
                raise UsageError(f"limits.{name} is {value}; it must be from 0 to 10000")


def verify_ids(name: str, ids: tuple[str, ...]) -> None:
    """UsageError if one of `ids` is not a platform and an id."""
    for written in ids:
        if not _ID.fullmatch(written):
            raise UsageError(f"{name} names {written[:40]!r}; write platform and id, such as telegram:123456")
