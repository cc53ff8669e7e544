"""The spine: a message in, the stored reply out. It knows the store and an engine, but no platform.

A message is committed before any work on it and its reply before it is shown, so that a crash loses a reply at most,
never what a person said. Of messengers, which are told that we have a message, each is followed until its reply is out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from chatbot.clerk import Clerk, whole
from chatbot.commands import Command, Commands, parse_command
from chatbot.errors import EngineBusyError
from chatbot.learnable import DEFAULT_POLICY, Rule
from chatbot.messages import Message, Reply, Waiting
from chatbot.store import ConversationStore
from chatbot.wording import wording_for

if TYPE_CHECKING:  # Any engine will do, so none is loaded from here.
    from chatbot.engine import Engine

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message that is to be answered, with what stands above its reply; a command, or a row and what was before."""

    message: Message
    notice: str
    command: Command | None
    row: int = 0
    merged: Sequence[int] = ()
    history: Sequence[str] = ()


class Conversations:
    """Answers messages of any number of chats, those of one chat in the order in which they came.

    `history_turns` is how much of a conversation the engine gets to see; `policy` what may be learnt from, by
    platform, and `kept_days` how long words are kept (0: for ever), so that people can be told.
    """

    def __init__(
        self,
        store: ConversationStore,
        engine: Engine,
        history_turns: int = 6,
        policy: Mapping[str, Rule] = DEFAULT_POLICY,
        kept_days: int = 0,
    ) -> None:
        self._store = store
        self._engine = engine
        self._history_turns = history_turns
        self._commands = Commands(store, policy, kept_days)
        self._clerk = Clerk(store.together)
        self._moves: dict[tuple[str, str], str] = {}  # chats that have got another id since the start
        # Weak: a lock goes when the last message of its chat is answered. asyncio's locks are first come, first served.
        self._locks: WeakValueDictionary[tuple[str, str, str | None], asyncio.Lock] = WeakValueDictionary()

    async def answer(self, message: Message, before: Sequence[Message] = ()) -> Reply:
        """The reply to a message, both committed by then; the one stored already if it was delivered before.

        `before` are messages of the same writer that are answered with it: stored as they are, and then done with.
        The first reply to somebody in a messenger's chat stands below what they have to know about the bot.
        Cancelling keeps the message and leaves it unanswered. DatabaseError if the store cannot be used, UsageError
        for decode settings that make no sense; a busy engine is answered with a polite line.
        """
        lock = self._locks.setdefault((message.platform, message.chat, message.thread), asyncio.Lock())
        async with lock:
            asked = await self._clerk.do(self._asked, self._moved(message), [self._moved(other) for other in before])
            if isinstance(asked, Reply):
                return asked
            if asked.command is not None:
                reply = await _in_thread(self._commands.run, asked.command, asked.message)
                if not asked.notice.startswith(reply.text):  # as /start does
                    reply = replace(reply, text=asked.notice + reply.text)
                await self._clerk.do(self._store.answered, asked.message, reply)
                return reply
            reply = await self._reply(asked)
            row = await self._clerk.do(self._store.record_reply, asked.row, reply, asked.notice, asked.merged)
            return replace(reply, text=asked.notice + reply.text, id=row)

    def _asked(self, message: Message, before: Sequence[Message]) -> _Asked | Reply:
        """A message as it is by now, committed unless it is a command, with what its reply needs; or the reply it got.

        One call, since each waits for the disk.
        """
        latest = self._store.latest(message)
        if latest is None:
            return Reply("", model_id="command", engine="command", detail="erased")
        command = parse_command(latest.text)
        notice = self._notice(latest)
        if command is not None:
            return _Asked(latest, notice, command)
        said = [earlier for other in before if (earlier := self._store.latest(other)) is not None]
        merged = [self._store.record_message(earlier).id for earlier in said]
        stored = self._store.record_message(latest)
        if not stored.fresh and (replied := self._store.stored_reply(stored.id)) is not None:
            return replied
        asked = replace(latest, text="\n".join(part.text for part in (*said, latest)))
        history = self._store.history(stored.id, self._history_turns)
        return _Asked(asked, notice, None, stored.id, merged, history)

    async def accept(self, message: Message) -> bool:
        """Keep a message before the platform is told that we have it; False: delivered before, do nothing with it."""
        return await self._clerk.do(self._store.accept, self._moved(message))

    async def waiting(self, platform: str) -> Sequence[Waiting]:
        """What earlier starts accepted and did not finish, oldest first."""
        return await _in_thread(self._store.waiting, platform)

    async def sending(self, message: Message) -> None:
        """The platform is about to be called with the next part of the reply."""
        await self._clerk.do(self._store.delivering, self._moved(message), "sending")

    async def pending(self, message: Message, ids: Sequence[str] = ()) -> None:
        """The call is over: of the reply, the parts with these platform ids are out, and certainly no other."""
        await self._clerk.do(self._store.delivering, self._moved(message), "pending", ids)

    async def done(
        self, message: Message, state: Literal["sent", "failed", "unknown"], ids: Sequence[str] = ()
    ) -> None:
        """Nothing is left to do for a message; its words are emptied where they waited."""
        await self._clerk.do(self._store.delivering, self._moved(message), state, ids)

    async def edit(self, message: Message) -> None:
        """A message has a new text: take it into its row, or into the answer if that is still to come. No reply."""
        await _in_thread(self._store.edit, self._moved(message))

    async def erase(self, platform: str, chat: str, message_id: str, thread: str | None = None) -> None:
        """A message was deleted on the platform: erase its words and the bot's replies to it, as /forget does."""
        await _in_thread(self._store.erase, platform, self._moves.get((platform, chat), chat), message_id, thread)

    async def rate(self, platform: str, chat: str, sender: str, reply_id: int, rating: int) -> str | None:
        """A +1 or -1 for the reply in a row; a line of thanks, None if there is no such reply in this chat."""
        if rating not in {1, -1} or not 0 < reply_id < 2**63:
            return None
        chat = self._moves.get((platform, chat), chat)
        text = await _in_thread(self._store.rate_reply, platform, chat, sender, reply_id, rating)
        return None if text is None else wording_for(text).rated[rating]

    async def move(self, platform: str, old_chat: str, new_chat: str) -> None:
        """A chat has a new id on its platform: all its state goes with it, what is being answered included."""
        if old_chat != new_chat:
            await _in_thread(self._store.move, platform, old_chat, new_chat)
            self._moves[platform, old_chat] = new_chat

    async def newest(self, platform: str, chat: str) -> str | None:
        """The largest number among the ids of the messages accepted in a chat, of any thread; None if there is none."""
        return await _in_thread(self._store.newest, platform, chat)

    async def chats(self, platform: str) -> Sequence[str]:
        """The platform's own ids of the chats known there; only Discord's are kept."""
        return await _in_thread(self._store.chats, platform)

    def _moved(self, message: Message) -> Message:
        """A message under its chat's id of today: those on their way still carry the one they came with."""
        chat = self._moves.get((message.platform, message.chat))
        return message if chat is None else replace(message, chat=chat)

    def _notice(self, message: Message) -> str:
        """What stands above the first reply to somebody in a messenger's chat; nothing above any other."""
        return f"{wording_for(message.text).first_contact}\n\n" if self._store.is_newcomer(message) else ""

    async def _reply(self, asked: _Asked) -> Reply:
        """What the engine says, which `load_engine` has put behind the rules."""
        message = asked.message
        try:
            return await self._engine.reply(asked.history, message.text, options=message.options)
        except EngineBusyError:
            return Reply(wording_for(message.text).busy, model_id=self._engine.model_id, engine="busy")


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do a call that may take its time in a thread, whole."""
    return await whole(asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs)))
