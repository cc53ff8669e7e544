"""The spine: a message in, the stored reply out. It knows the store, the rules and an engine, but no platform.

A message is committed before any work on it and its reply before it is shown, so that a crash loses a reply at most,
never what a person said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakValueDictionary

from chatbot.commands import Commands, parse_command
from chatbot.engine import Engine
from chatbot.errors import EngineBusyError
from chatbot.learnable import DEFAULT_POLICY, Rule
from chatbot.messages import Message, Reply
from chatbot.rules import RuleHit
from chatbot.store import ConversationStore
from chatbot.wording import wording_for

P = ParamSpec("P")
T = TypeVar("T")


class Rules(Protocol):
    """The safety layer outside the model, as `chatbot.rules.Rules` is: None, or the line to send instead."""

    def before(self, text: str) -> RuleHit | None:
        """Judge what a person wrote."""

    def after(self, text: str) -> RuleHit | None:
        """Judge what the model is about to say."""


class Conversations:
    """Answers messages of any number of chats, those of one chat in the order in which they came.

    `history_turns` is how much of a conversation the engine gets to see; `policy` what may be learnt from, by
    platform, so that people can be told.
    """

    def __init__(
        self,
        store: ConversationStore,
        engine: Engine,
        rules: Rules,
        history_turns: int = 6,
        policy: Mapping[str, Rule] = DEFAULT_POLICY,
    ) -> None:
        self._store = store
        self._engine = engine
        self._rules = rules
        self._history_turns = history_turns
        self._commands = Commands(store, policy)
        # Weak: a lock goes when the last message of its chat is answered. asyncio's locks are first come, first served.
        self._locks: WeakValueDictionary[tuple[str, str, str | None], asyncio.Lock] = WeakValueDictionary()

    async def answer(self, message: Message) -> Reply:
        """The reply to a message, both committed by then; the one stored already if it was delivered before.

        Cancelling keeps the message and leaves it unanswered. DatabaseError if the store cannot be used, UsageError
        for decode settings that make no sense; a busy engine is answered with a polite line.
        """
        lock = self._locks.setdefault((message.platform, message.chat, message.thread), asyncio.Lock())
        async with lock:
            command = parse_command(message.text)
            if command is not None:
                return await _in_thread(self._commands.run, command, message)
            stored = await _in_thread(self._store.record_message, message)
            if not stored.fresh:
                earlier = await _in_thread(self._store.stored_reply, stored.id)
                if earlier is not None:
                    return earlier
            reply = await self._reply(stored.id, message)
            await _in_thread(self._store.record_reply, stored.id, reply)
            return reply

    async def _reply(self, message_id: int, message: Message) -> Reply:
        """What to say: a rule's answer, or the engine's if no rule objects to that."""
        hit = await _in_thread(self._rules.before, message.text)
        if hit is not None:
            return Reply(hit.reply, model_id="rules", engine="rules", detail=hit.rule)
        history = await _in_thread(self._store.history, message_id, self._history_turns)
        try:
            reply = await self._engine.reply(history, message.text, options=message.options)
        except EngineBusyError:
            return Reply(wording_for(message.text).busy, model_id=self._engine.model_id, engine="busy")
        hit = await _in_thread(self._rules.after, reply.text)
        if hit is None:
            return reply
        return replace(reply, text=hit.reply, model_id="rules", engine="rules", detail=hit.rule, score=None)


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do a call that blocks in a thread, whole: a cancelled caller leaves only when it has ended.

    Otherwise the next message of the chat could overtake what this one is still writing.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        if not doing.done():
            await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # Nobody is left to be told.
        raise
