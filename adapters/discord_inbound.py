"""From Discord's events to the spine, in their order, and from a channel's history what no event has told.

Whatever happens to messages goes through one queue: new ones, edits, deletions, and the look back after a new session
of the gateway. While that look back goes on, live messages wait behind it, so that the newest message accepted in a
channel never stands past a gap. What was missed is accepted in the order of its ids over all channels, for the same
reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import discord

from adapters.admission import Admission, Verdict
from adapters.base import Spine
from adapters.courtesy import text_only, too_fast
from adapters.discord_outbound import NETWORK_ERRORS, NOT_TOLD
from adapters.discord_settings import DiscordSettings, Pace
from adapters.discord_text import is_from_person, is_hidden, is_to, language_of, unreadable, words_of
from adapters.lanes import Lanes, where
from chatbot.errors import DatabaseError, UsageError
from chatbot.messages import Message

log = logging.getLogger(__name__)

PLATFORM = "discord"
LONGEST_GAP_S = 24 * 3600  # older messages are not answered any more: their writers have gone
_MOST_PER_CHANNEL = 2000  # messages
_GUILDS_WAIT_S = 10
_READ_AT_ONCE = 8  # channels
_READ_TRIES = 6
_SEEN = 4096  # ids of messages; a session is resumed with less than that
_OVERLAP_S = 5  # ids follow the clocks of several machines

Channel = discord.abc.Messageable
_Listed = discord.TextChannel | discord.VoiceChannel | discord.Thread


class DiscordInbound:
    """Takes events while `run` runs. `put` must be called in the order of the events, and returns at once."""

    def __init__(
        self,
        client: discord.Client,
        spine: Spine,
        admission: Admission,
        lanes: Lanes,
        settings: DiscordSettings,
        pace: Pace,
    ) -> None:
        self.ready = asyncio.Event()  # the guilds of the session are known
        self.caught_up = asyncio.Event()  # nothing is missing before the live messages
        self._client = client
        self._spine = spine
        self._admission = admission
        self._lanes = lanes
        self._settings = settings
        self._pace = pace
        self._jobs: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._seen: OrderedDict[int, None] = OrderedDict()

    async def run(self) -> None:
        """Do one event after another, until cancelled. What fails, fails the session: a new one looks back."""
        while True:
            job = await self._jobs.get()
            await self._when_stored(job)

    def session(self) -> None:
        """A new session of the gateway has begun: messages may be missing before those that follow."""
        self.ready.clear()
        self.caught_up.clear()
        self._jobs.put_nowait(self._look_back)

    def message(self, message: discord.Message) -> None:
        """A new message."""
        self._jobs.put_nowait(partial(self._carefully, partial(self._take, message)))

    def edited(self, message: discord.Message) -> None:
        """A message with a new text, whoever's it is."""
        self._jobs.put_nowait(partial(self._carefully, partial(self._edit, message)))

    def deleted(self, channel_id: int, message_id: int) -> None:
        """A message that is no more."""
        erase = partial(self._spine.erase, PLATFORM, str(channel_id), str(message_id))
        self._jobs.put_nowait(partial(self._carefully, erase))

    def is_for_us(self, message: discord.Message) -> bool:
        """Whether a person wrote it to the bot, or in a channel where everything is answered."""
        bot = self._client.user
        if bot is None or not is_from_person(message):
            return False
        return is_to(message, bot.id) or str(message.channel.id) in self._settings.ambient

    async def _take(self, message: discord.Message, *, live: bool = True) -> None:
        """Accept a message and have it answered; one without words, or over the limits, gets a line if it is live."""
        if message.id in self._seen or not self.is_for_us(message):
            return
        self._seen[message.id] = None
        while len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        translated = self._translate(message)
        verdict = await self._verdict(message, translated)
        if verdict == "ignore":
            return
        if verdict == "notice" or not translated.text:
            if live:
                self._lanes.say(translated, self._line(message, translated.text))
            return
        if await self._spine.accept(translated):
            self._lanes.put(translated)

    def _line(self, message: discord.Message, text: str) -> str:
        """What to say to somebody whose message is not answered, though it is for the bot."""
        if text:
            return too_fast(text)
        hidden = self._client.user is not None and is_hidden(message, self._client.user.id)
        return unreadable(language_of(message)) if hidden else text_only(language_of(message))

    async def _edit(self, message: discord.Message) -> None:
        if is_from_person(message):
            translated = self._translate(message)
            if translated.text:  # Without the intent an edit that takes the mention away comes without a text.
                await self._spine.edit(translated)

    def _translate(self, message: discord.Message) -> Message:
        """A message as the spine has it. A thread is a chat of its own, known by its id as every channel is."""
        bot = self._client.user
        replied = message.reference.message_id if message.reference else None
        return Message(
            platform=PLATFORM,
            chat=str(message.channel.id),
            sender=str(message.author.id),
            text=words_of(message, bot.id if bot else 0),
            message_id=str(message.id),
            sent_at=message.created_at,
            reply_to=None if replied is None else str(replied),
        )

    async def _verdict(self, message: discord.Message, translated: Message) -> Verdict:
        """What admission says; the roles of who wrote a message from the history have to be asked for."""
        author = message.author
        if message.guild and not isinstance(author, discord.Member):
            try:
                author = await message.guild.fetch_member(author.id)
            except (discord.HTTPException, *NETWORK_ERRORS):
                log.info("discord: somebody's roles are not known")
        return decide(self._admission, translated, author, message.guild, message.channel)

    async def _carefully(self, job: Callable[[], Awaitable[None]]) -> None:
        """Do what one message asks for; one that makes no sense must not end the session, and the next one, and so on.

        Errors of the store are raised: they are not the message's.
        """
        try:
            await job()
        except (DatabaseError, UsageError):
            raise
        except Exception as error:
            log.error("discord: a message is passed over: %s", where(error))

    async def _when_stored(self, job: Callable[[], Awaitable[None]]) -> None:
        """Do a job, over a store that is away for a moment. Raises what else there is."""
        for pause in (self._pace.retry, 2 * self._pace.retry, None):
            try:
                return await job()
            except DatabaseError as error:
                if pause is None:
                    raise
                log.warning("discord: %s", error)
                self._seen.clear()  # The message at hand is not accepted yet.
                await asyncio.sleep(pause)

    async def _look_back(self) -> None:
        """Take what was written while no session was there to tell of it."""
        try:
            await asyncio.wait_for(self.ready.wait(), _GUILDS_WAIT_S)
        except TimeoutError:
            log.warning("discord: not all servers are there yet")
        reading = asyncio.Semaphore(_READ_AT_ONCE)
        channels = await self._channels_with_news()
        found = await asyncio.gather(*(self._read(channel, after, reading) for channel, after in channels))
        missed = sorted((message for messages in found for message in messages), key=lambda message: message.id)
        for message in missed:
            await self._carefully(partial(self._take, message, live=False))
        if missed:
            log.info("discord: looked back over %d messages", len(missed))
        self.caught_up.set()

    async def _channels_with_news(self) -> list[tuple[Channel | int, int]]:
        """The channels, or their ids, where something may have been missed, and the id after which.

        Where the bot has never talked, that is the newest message accepted anywhere: until then it was there.
        """
        known: dict[int, str | None] = {}
        for chat in await self._spine.chats(PLATFORM):
            if chat.isdecimal():
                known[int(chat)] = await self._spine.newest(PLATFORM, chat)
        numbers = [int(mark) for mark in known.values() if mark and mark.isdecimal()]
        news: list[tuple[Channel | int, int]] = []
        if not numbers:
            return news
        newest = max(numbers)
        marks = {chat: int(mark) if mark and mark.isdecimal() else newest for chat, mark in known.items()}
        for guild in self._client.guilds:
            channels: list[_Listed] = [*guild.text_channels, *guild.voice_channels, *guild.threads]
            for channel in channels:
                heard_of, last = channel.id in marks, channel.last_message_id
                after = marks.pop(channel.id, newest)
                if heard_of if last is None else last > after:
                    news.append((channel, after))
        # Left are direct messages, which no event lists, and threads that were archived.
        return news + list(marks.items())

    async def _read(self, place: Channel | int, after: int, reading: asyncio.Semaphore) -> list[discord.Message]:
        """The messages of a channel after an id, none where the bot may not read."""
        oldest = (int((time.time() - LONGEST_GAP_S) * 1000) - discord.utils.DISCORD_EPOCH) << 22
        start = discord.Object(max(after - (_OVERLAP_S * 1000 << 22), oldest, 0))
        pause = self._pace.retry
        async with reading:
            for _ in range(_READ_TRIES):
                try:
                    channel = await self._client.fetch_channel(place) if isinstance(place, int) else place
                    if not isinstance(channel, Channel):
                        return []
                    return await _messages(channel, start)
                except discord.InvalidData:
                    return []
                except (discord.HTTPException, *NETWORK_ERRORS) as error:
                    if isinstance(error, discord.HTTPException) and error.status in NOT_TOLD:
                        return []
                    failure = error
                await asyncio.sleep(pause)
                pause *= 2
        raise failure


async def _messages(channel: Channel, after: discord.Object) -> list[discord.Message]:
    """The messages of a channel, the oldest first, up to one that the library cannot read."""
    found = []
    try:
        async for message in channel.history(after=after, limit=_MOST_PER_CHANNEL, oldest_first=True):
            found.append(message)
    except (LookupError, TypeError, ValueError) as error:
        log.warning("discord: a message of the past cannot be read: %s", where(error))
    return found


def decide(
    admission: Admission,
    message: Message,
    author: discord.User | discord.Member,
    guild: discord.Guild | None,
    channel: object,
) -> Verdict:
    """What admission says to a message. A thread is let in where the channel is that it belongs to."""
    roles = [str(role.id) for role in author.roles] if isinstance(author, discord.Member) else []
    place = channel.parent_id if isinstance(channel, discord.Thread) else None
    asked = message if place is None else replace(message, chat=str(place))
    return admission.decide(asked, roles=roles, guild=None if guild is None else str(guild.id))
