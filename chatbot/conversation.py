"""The spine: a message in, the stored reply out. It knows the store and an engine, but no platform.

A message is committed before any work on it and its reply before it is shown, so that a crash loses a reply at most,
never what a person said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from chatbot.commands import Commands, parse_command
from chatbot.errors import EngineBusyError
from chatbot.learnable import DEFAULT_POLICY, Rule
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore
from chatbot.wording import wording_for

if TYPE_CHECKING:  # Any engine will do, so none is loaded from here.
    from chatbot.engine import Engine

P = ParamSpec("P")
T = TypeVar("T")


class Conversations:
    """Answers messages of any number of chats, those of one chat in the order in which they came.

    `history_turns` is how much of a conversation the engine gets to see; `policy` what may be learnt from, by
    platform, so that people can be told.
    """

    def __init__(
        self,
        store: ConversationStore,
        engine: Engine,
        history_turns: int = 6,
        policy: Mapping[str, Rule] = DEFAULT_POLICY,
    ) -> None:
        self._store = store
        self._engine = engine
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
        """What the engine says, which `load_engine` has put behind the rules."""
        history = await _in_thread(self._store.history, message_id, self._history_turns)
        try:
            return await self._engine.reply(history, message.text, options=message.options)
        except EngineBusyError:
            return Reply(wording_for(message.text).busy, model_id=self._engine.model_id, engine="busy")


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
