"""Doubles of what stands around the spine, and of the spine: an adapter without a platform, engines, short rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from adapters.base import Answering
from chatbot.errors import ChatbotError
from chatbot.messages import Message, Reply, Waiting
from chatbot.rules import RuleHit


class CollectingAdapter:
    """An adapter whose platform is a list of texts in and a list of texts out."""

    name = "collecting"

    def __init__(self, texts: Iterable[str]) -> None:
        self.shown: list[str] = []
        self.told: list[str] = []  # errors
        self._texts = texts

    async def run(self, spine: Answering) -> None:
        """Bring each text to the spine, one after another."""
        session = uuid4().hex  # Not id(self): a later adapter may stand where an earlier one stood.
        for number, text in enumerate(self._texts):
            message = Message(self.name, "room", "somebody", text, f"{session}-{number}", datetime.now(UTC))
            try:
                self.shown.append((await spine.answer(message)).text)
            except ChatbotError as error:
                self.told.append(str(error))


class MemorySpine:
    """A spine that keeps everything in a dictionary and tells in `states` what became of each message, in order.

    `answering` makes the replies; without one a message is answered with its own text after "re: ".
    """

    def __init__(self, answering: Callable[[Message], Awaitable[Reply]] | None = None) -> None:
        self.messages: list[Message] = []
        self.kept: dict[tuple[str, str, str | None, str], Waiting] = {}
        self.states: list[tuple[str, str]] = []
        self.ids: dict[str, tuple[str, ...]] = {}  # of the replies that are done, by the message's id
        self.edited: list[Message] = []
        self.erased: list[tuple[str, str, str | None]] = []
        self.rated: list[tuple[str, str, int, int]] = []
        self.moved: list[tuple[str, str]] = []
        self._answering = answering
        self._done: set[tuple[str, str, str | None, str]] = set()
        self._newest: dict[tuple[str, str], str] = {}

    async def answer(self, message: Message, before: Sequence[Message] = ()) -> Reply:
        """The reply, kept as pending; it answers those before, too."""
        self.messages += [*before, message]
        if self._answering is None:
            reply = Reply(f"re: {message.text}", "m", "echo", id=len(self.messages))
        else:
            reply = await self._answering(message)
        self._set(message, "pending", reply=reply)
        for earlier in before:
            await self.done(earlier, "sent")
        return reply

    async def accept(self, message: Message) -> bool:
        """True the first time."""
        if _key(message) in self.kept.keys() | self._done:
            return False
        if message.message_id.isdigit():
            before = self._newest.get((message.platform, message.chat), "0")
            self._newest[message.platform, message.chat] = max(before, message.message_id, key=int)
        self.kept[_key(message)] = Waiting(message, None, "received")
        self.states.append((message.message_id, "received"))
        return True

    async def waiting(self, platform: str) -> Sequence[Waiting]:
        """What is not done."""
        return [found for found in self.kept.values() if found.message.platform == platform]

    async def sending(self, message: Message) -> None:
        """Note it."""
        self._set(message, "sending")

    async def pending(self, message: Message, ids: Sequence[str] = ()) -> None:
        """Note it."""
        self._set(message, "pending", sent=tuple(ids))

    async def done(self, message: Message, state: str, ids: Sequence[str] = ()) -> None:
        """Note it and let go of the message."""
        self.states.append((message.message_id, state))
        self.ids[message.message_id] = tuple(ids)
        self._done.add(_key(message))
        self.kept.pop(_key(message), None)

    async def edit(self, message: Message) -> None:
        """Note it."""
        self.edited.append(message)

    async def erase(self, platform: str, chat: str, message_id: str, thread: str | None = None) -> None:
        """Note it."""
        self.erased.append((chat, message_id, thread))

    async def rate(self, platform: str, chat: str, sender: str, reply_id: int, rating: int) -> str | None:
        """Thanks for replies that were made here."""
        self.rated.append((chat, sender, reply_id, rating))
        return "Glad you liked it." if 0 < reply_id <= len(self.messages) else None

    async def move(self, platform: str, old_chat: str, new_chat: str) -> None:
        """Note it."""
        self.moved.append((old_chat, new_chat))

    async def newest(self, platform: str, chat: str) -> str | None:
        """The largest number accepted."""
        return self._newest.get((platform, chat))

    async def chats(self, platform: str) -> Sequence[str]:
        """Those with a message accepted."""
        return [chat for found, chat in self._newest if found == platform]

    def _set(self, message: Message, state: str, **changes: Any) -> None:
        self.states.append((message.message_id, state))
        found = self.kept.get(_key(message))
        if found is not None:
            self.kept[_key(message)] = replace(found, **{"state": state, **changes})


def _key(message: Message) -> tuple[str, str, str | None, str]:
    return message.platform, message.chat, message.thread, message.message_id


class ScriptedEngine:
    """Echoes, but waits for `release` at a text that starts with "slow", and raises `failure` at one with "fail"."""

    model_id = "scripted"

    def __init__(self, failure: ChatbotError | None = None) -> None:
        self.asked: list[tuple[list[str], str]] = []
        self.options: list[Mapping[str, object] | None] = []
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()
        self._failure = failure

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The text as it is, after "heard ", when its time has come."""
        self.asked.append((list(history), text))
        self.options.append(options)
        if text.startswith("slow"):
            self.waiting.set()
            await self.release.wait()
        if text.startswith("fail") and self._failure is not None:
            raise self._failure
        return Reply(f"heard {text}", self.model_id, "echo", score=-0.5, duration_ms=7.0, seed=seed)

    def reply_sync(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """`reply` for callers without an event loop."""
        return asyncio.run(self.reply(history, text, seed=seed, options=options))

    def close(self) -> None:
        """Nothing to release."""


class WordRules:
    """Answers "alarm" from people with help, and keeps the bot from saying "secret"."""

    def before(self, text: str) -> RuleHit | None:
        """A hit for "alarm"."""
        return RuleHit("crisis", "help is near") if "alarm" in text else None

    def after(self, text: str) -> RuleHit | None:
        """A hit for "secret"."""
        return RuleHit("hate", "let us talk of something else") if "secret" in text else None
