"""Who is answered, for all messengers alike: lists of people and places, and how many messages a minute.

In goes a message with what the platform knows of its sender, out comes a verdict. Nothing is stored: after a new start
everybody has their full allowance again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from chatbot.access import Access, AccessList, Limits
from chatbot.messages import Message

Verdict = Literal["welcome", "ignore", "notice"]
_MANY = 10_000  # allowances kept before those that are full again are dropped


@dataclass(slots=True)
class _Allowance:
    """What somebody may still send: filled up by `per_minute`, up to as many; `told` since it ran dry."""

    per_minute: int
    left: float
    at: float
    told: bool = False

    def fill(self, now: float) -> None:
        self.left = min(self.per_minute, self.left + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.left >= self.per_minute:
            self.told = False


class Admission:
    """Decides by the lists of `access` and the allowances of `limits`. `now` is a clock in seconds.

    Blocked is who or what stands in a block list. Otherwise both must hold: the person is in an allow list of users or
    roles, and the place in one of chats or guilds; a pair of lists without an entry for the platform lets all pass.
    """

    def __init__(self, access: Access, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._limits = limits
        self._now = now
        self._allowances: dict[tuple[str, str, str], _Allowance] = {}

    def decide(self, message: Message, *, roles: Collection[str] = (), guild: str | None = None) -> Verdict:
        """Whether to answer a message, counted from then on.

        "ignore": not allowed, or over the limit and told so. "notice": over the limit, to be told this once.
        """
        platform = message.platform
        person = {"users": {message.sender}, "roles": set(roles)}
        place = {"chats": {message.chat}, "guilds": set() if guild is None else {guild}}
        if f"{platform}:{message.sender}" in self._access.admins:
            return "welcome"
        blocked = any(_named(self._access.block, kind, platform) & ids for kind, ids in (person | place).items())
        if blocked or not all(_passes(self._access.allow, platform, pair) for pair in (person, place)):
            return "ignore"
        return self._count(message)

    def _count(self, message: Message) -> Verdict:
        """Take one from the person's and the chat's allowance, if both have one."""
        now = self._now()
        if len(self._allowances) > _MANY:
            self._drop_full(now)
        asked = [
            self._allowance((message.platform, kind, whose), per_minute, now)
            for kind, whose, per_minute in (
                ("user", message.sender, self._limits.user_per_minute),
                ("chat", message.chat, self._limits.chat_per_minute),
            )
            if per_minute
        ]
        dry = [allowance for allowance in asked if allowance.left < 1]
        if not dry:
            for allowance in asked:
                allowance.left -= 1
            return "welcome"
        told = all(allowance.told for allowance in dry)
        for allowance in dry:
            allowance.told = True
        return "ignore" if told else "notice"

    def _allowance(self, key: tuple[str, str, str], per_minute: int, now: float) -> _Allowance:
        allowance = self._allowances.setdefault(key, _Allowance(per_minute, per_minute, now))
        allowance.fill(now)
        return allowance

    def _drop_full(self, now: float) -> None:
        """A full allowance is as good as none, so that memory does not grow with everybody who ever wrote."""
        for allowance in self._allowances.values():
            allowance.fill(now)
        self._allowances = {key: a for key, a in self._allowances.items() if a.left < a.per_minute}


def _named(entries: AccessList, kind: str, platform: str) -> set[str]:
    """The platform's ids in one list."""
    written: tuple[str, ...] = getattr(entries, kind)
    return {entry.removeprefix(f"{platform}:") for entry in written if entry.startswith(f"{platform}:")}


def _passes(allow: AccessList, platform: str, ids: dict[str, set[str]]) -> bool:
    """Whether one of `ids` is named in its list, or no list names anything."""
    named = {kind: _named(allow, kind, platform) for kind in ids}
    return not any(named.values()) or any(named[kind] & ids[kind] for kind in ids)
