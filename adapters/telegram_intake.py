"""What is done with each of Telegram's updates: kept before it is acknowledged, then answered, followed or rated."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from telegram import BotCommandScopeAllGroupChats, BotCommandScopeAllPrivateChats, Update, User
from telegram.error import TelegramError

from adapters.admission import Admission
from adapters.aside import begin, see_out
from adapters.base import Spine
from adapters.courtesy import text_only, too_fast
from adapters.lanes import Lanes, where
from adapters.telegram_client import Client, patiently
from adapters.telegram_menu import menu
from adapters.telegram_reading import PLATFORM, Edited, Event, Moved, Pressed, Said, Wordless, completed, read
from adapters.telegram_sending import acknowledge, mark
from chatbot.errors import ChatbotError, UsageError
from chatbot.messages import Message

T = TypeVar("T")
log = logging.getLogger(__name__)
_PAUSES_S = (0.1, 1.0, 0.0)  # after each try of an update
_REMEMBERED = 1000  # wordless messages that got their line


class Intake:
    """Takes updates one at a time, each kept before `take` returns."""

    def __init__(
        self, client: Client, me: User, spine: Spine, lanes: Lanes, admission: Admission, *, ambient: bool
    ) -> None:
        self._client = client
        self._me = me
        self._spine = spine
        self._lanes = lanes
        self._admission = admission
        self._ambient = ambient
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def aside(self, call: Coroutine[Any, Any, None]) -> None:
        """Do something that no update waits for."""
        begin(call, self._tasks)

    async def close(self) -> None:
        """Let what is being done aside end, or break it off."""
        await see_out(self._tasks)

    async def take(self, *updates: Any) -> None:
        """Take updates as JSON, in their order; one that cannot be read is passed over.

        A ChatbotError: all are to be brought again. Messages that came one after another are kept at once.
        """
        events = [self._read(raw) for raw in updates]
        for said, group in groupby(events, lambda event: isinstance(event, Said)):
            if said:
                await self._said([event.message for event in group if isinstance(event, Said)])
                continue
            for event in group:
                await self._carefully(partial(self._follow, event))

    def _read(self, raw: Any) -> Event | None:
        try:
            return read(Update.de_json(completed(raw), self._client.bot), self._me, ambient=self._ambient)
        except Exception as error:  # whatever a malformed object makes a library raise
            log.warning("telegram: an update that cannot be read is passed over: %s", where(error))
            return None

    async def _carefully(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do something, again if it must be. A mistake of ours may not keep all that follows from being taken."""
        for pause in _PAUSES_S:
            try:
                return await work()
            except ChatbotError:
                raise
            except Exception as error:
                mistake = error
            await asyncio.sleep(pause)
        log.error("telegram: an update could not be taken and is passed over: %s", where(mistake))
        return None

    async def _follow(self, event: Event | None) -> None:
        match event:
            case Said(message):
                await self._said([message])
            case Wordless(message, language, album):
                self._wordless(message, language, album)
            case Edited(message):
                await self._spine.edit(message)
            case Moved(old_chat, new_chat):
                await self._spine.move(PLATFORM, old_chat, new_chat)
            case Pressed(query_id, message, reply_id, rating):
                await self._pressed(query_id, message, reply_id, rating)

    async def _said(self, messages: Sequence[Message]) -> None:
        """Take messages: those of a chat one after another, all chats at once, since keeping one waits for the disk."""
        by_chat: dict[str, list[Message]] = {}
        for message in messages:
            by_chat.setdefault(message.chat, []).append(message)
        taken = await asyncio.gather(*map(self._said_there, by_chat.values()), return_exceptions=True)
        for error in taken:
            if error is not None:
                raise error

    async def _said_there(self, messages: Sequence[Message]) -> None:
        for message in messages:
            verdict = self._admission.decide(message)
            if verdict == "welcome" and await self._carefully(partial(self._spine.accept, message)):
                self._lanes.put(message)
            elif verdict == "notice":
                self._lanes.say(message, too_fast(message.text))

    def _wordless(self, message: Message, language: str | None, album: str) -> None:
        """One courteous line for a message without text, for an album, and not again if it comes twice."""
        if (message.chat, album) in self._told:
            return
        self._told[message.chat, album] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        verdict = self._admission.decide(message)
        if verdict != "ignore":
            self._lanes.say(message, text_only(language) if verdict == "welcome" else too_fast(message.text))

    async def _pressed(self, query_id: str, message: Message, reply_id: int, rating: int) -> None:
        thanks = None
        if rating and self._admission.decide(message) == "welcome":
            thanks = await self._spine.rate(PLATFORM, message.chat, message.sender, reply_id, rating)
        self.aside(acknowledge(self._client.bot, query_id, thanks))
        if thanks is not None:
            self.aside(mark(self._client.bot, message.chat, message.message_id, reply_id, rating))


async def offer_menus(client: Client) -> None:
    """Set the menus of commands; without them everything works, too."""
    scopes = {True: BotCommandScopeAllGroupChats(), False: BotCommandScopeAllPrivateChats()}
    for group, scope in scopes.items():
        for language in (None, "zh"):
            commands = menu(group=group, chinese=language == "zh")
            offer = partial(client.bot.set_my_commands, commands, scope=scope, language_code=language)
            try:
                await patiently(offer, "the menus")
            except (TelegramError, UsageError) as error:
                log.warning("telegram: the menu of commands could not be set: %s", type(error).__name__)
                return
