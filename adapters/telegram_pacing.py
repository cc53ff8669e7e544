"""When a message may be sent: Telegram's limits by chat, by group and overall, and what it asked for itself.

Pure bookkeeping of times on one event loop; it knows chats by their ids alone and sends nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pace:
    """Telegram's limits for bots (core.telegram.org/bots/faq), in seconds between messages.

    `group_burst` messages are let into a group in any `group_window_s`.
    """

    chat_s: float = 1.0
    group_burst: int = 20
    group_window_s: float = 60.0
    overall_s: float = 0.035  # 28 a second: what is sent evenly arrives less so, and the limit is 30


_LONGEST_CALL_S = 60.0  # after which a call is taken for over, should nobody say so


@dataclass(slots=True)
class _Chat:
    free_at: float = 0.0
    called_at: float | None = None  # since when a call is under way
    sent: deque[float] = field(default_factory=deque)


class Pacer:
    """Gives each message its time. `now` is a clock in seconds."""

    def __init__(self, pace: Pace, now: Callable[[], float] | None = None) -> None:
        self._pace = pace
        self._now = now or asyncio.get_running_loop().time
        self._chats: dict[str, _Chat] = {}
        self._overall_at = 0.0  # when the next message may go to whatever chat

    async def turn(self, chat: str) -> None:
        """Wait until a message may go to a chat; those who wait for other chats are not held up by it."""
        while (wait := self._free_at(chat) - self._now()) > 0:
            await asyncio.sleep(wait)
        now = self._now()
        entry = self._chats.setdefault(chat, _Chat())
        entry.free_at, entry.called_at = now + self._pace.chat_s, now
        entry.sent.append(now)
        at = max(self._overall_at, now)
        self._overall_at = at + self._pace.overall_s
        if at > now:
            await asyncio.sleep(at - now)

    def over(self, chat: str) -> None:
        """The call that had its turn has come back: the server has counted it by now at the latest."""
        now = self._now()
        entry = self._chats.setdefault(chat, _Chat())
        entry.free_at, entry.called_at = max(entry.free_at, now + self._pace.chat_s), None
        if entry.sent:
            entry.sent[-1] = now

    def hold(self, chat: str, seconds: float) -> None:
        """Telegram wants nothing for this chat for so long."""
        entry = self._chats.setdefault(chat, _Chat())
        entry.free_at = max(entry.free_at, self._now() + seconds)

    @property
    def crowded(self) -> bool:
        """Whether messages wait for the overall limit, so that anything that can be left out should be."""
        return self._overall_at - self._now() > 2 * self._pace.overall_s

    def _free_at(self, chat: str) -> float:
        """When the next message may go to this chat."""
        now = self._now()
        if len(self._chats) > 10_000:
            self._forget(now)
        entry = self._chats.get(chat)
        if entry is None:
            return now
        while entry.sent and entry.sent[0] <= now - self._pace.group_window_s:
            entry.sent.popleft()
        # Groups have negative ids.
        if chat.startswith("-") and len(entry.sent) >= self._pace.group_burst:
            return max(entry.free_at, entry.sent[-self._pace.group_burst] + self._pace.group_window_s)
        if entry.called_at is not None and now < entry.called_at + _LONGEST_CALL_S:
            # When it arrives is not known yet, and the next one must not come too soon after it.
            return max(entry.free_at, now + self._pace.chat_s)
        return entry.free_at

    def _forget(self, now: float) -> None:
        """Drop chats to which nothing was sent for so long that no limit is left."""
        self._chats = {
            chat: entry
            for chat, entry in self._chats.items()
            if entry.free_at > now or (entry.sent and entry.sent[-1] > now - self._pace.group_window_s)
        }
