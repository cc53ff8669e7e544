"""discord.py's clients with our handlers: events go on to the inbound queue and the commands, in their order.

No event that cannot be read, and no mistake in a handler, ends the session; each is logged by its kind and place.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import discord
from discord import app_commands

from adapters.discord_commands import CommandTree, DiscordCommands, Interaction, failed, tell
from adapters.discord_inbound import DiscordInbound
from adapters.discord_outbound import NOT_TOLD
from adapters.discord_settings import DiscordSettings, Pace
from adapters.lanes import where
from chatbot.errors import ChatbotError

log = logging.getLogger(__name__)

_MANY_SESSIONS = 20  # begun within an hour: Discord resets the token of a bot that begins 1000 in a day
_AN_HOUR_S = 3600
_MUST_BE_READ = {"READY", "RESUMED"}


class Sessions:
    """When sessions of the gateway have begun, over all clients of a process, and whether one more may."""

    def __init__(self) -> None:
        self._begun: deque[float] = deque(maxlen=_MANY_SESSIONS)

    def begin(self) -> None:
        """Note one. ChatbotError when there have been far too many."""
        now = time.monotonic()
        if len(self._begun) == _MANY_SESSIONS and now - self._begun[0] < _AN_HOUR_S:
            raise ChatbotError("Discord has ended too many sessions within an hour: the next one must wait")
        self._begun.append(now)


class Handlers(discord.Client):
    """What both clients do with events. Nothing is done with them before `attach` and after `detach`."""

    def prepare(self, pace: Pace, sessions: Sessions) -> None:
        """Make the client ready for use; once, before it logs in."""
        self.tree: app_commands.CommandTree[discord.Client] = CommandTree(self, self._hear)
        self._pace = pace
        self._sessions = sessions
        self._inbound: DiscordInbound | None = None
        self._commands: DiscordCommands | None = None
        parsers = self._connection.parsers
        for kind in parsers.keys() - _MUST_BE_READ:
            parsers[kind] = _forgiving(kind, parsers[kind])
        told_of = parsers["GUILD_CREATE"]

        def guild(data: Any) -> None:
            told_of(data)
            self._look_around()

        parsers["GUILD_CREATE"] = guild

    def attach(self, inbound: DiscordInbound, commands: DiscordCommands) -> None:
        """Hand events on from now on."""
        self._inbound, self._commands = inbound, commands

    def _look_around(self) -> None:
        """Tell when all servers of a connection that stands alone are known; the library waits for more of them."""
        if self._inbound and self.shard_count is None and not any(guild.unavailable for guild in self.guilds):
            self._inbound.ready.set()

    def detach(self) -> None:
        """Hand nothing on any more: what comes now is found by the next session's look back."""
        self._inbound = self._commands = None

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """Called by the library for every event; it still has some when it is closed, and nowhere to put them."""
        if not self.is_closed():
            super().dispatch(event, *args, **kwargs)

    async def application_info(self) -> discord.AppInfo:
        """What the library wants to know of the application at the start; where a server tells less, less is known."""
        told: dict[str, Any] = {}
        try:
            told |= await self.http.application_info()
        except discord.HTTPException as error:
            if error.status not in NOT_TOLD:
                raise
        bare = {"id": self.user and self.user.id, "name": "", "description": "", "icon": None, "verify_key": ""}
        owner = {"id": 0, "username": "", "discriminator": "0", "avatar": None}
        public = {"bot_public": False, "bot_require_code_grant": False}
        data: Any = {**bare, **public, "owner": owner, **told}
        return discord.AppInfo(self._connection, data)

    async def on_connect(self) -> None:
        """A new session has begun."""
        if self._inbound:
            self._inbound.session()
            self._look_around()

    async def on_ready(self) -> None:
        """Its guilds are known."""
        log.info("discord: connected to %d servers", len(self.guilds))
        if self._inbound:
            self._inbound.ready.set()

    async def on_resumed(self) -> None:
        """The gateway goes on where it broke off; what happened meanwhile follows as usual."""
        log.info("discord: the connection is resumed")

    async def on_message(self, message: discord.Message) -> None:
        """Somebody wrote, perhaps the bot itself."""
        if self._inbound:
            self._inbound.message(message)

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        """A message changed; without the time of an edit it was Discord that did it, for a preview."""
        if self._inbound and event.message.edited_at is not None:
            self._inbound.edited(event.message)

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        """A message was deleted."""
        if self._inbound:
            self._inbound.deleted(event.channel_id, event.message_id)

    async def on_raw_bulk_message_delete(self, event: discord.RawBulkMessageDeleteEvent) -> None:
        """Many were."""
        for message_id in sorted(event.message_ids):
            if self._inbound:
                self._inbound.deleted(event.channel_id, message_id)

    async def on_interaction(self, interaction: Interaction) -> None:
        """A button was pressed, maybe under a message of an earlier start. Commands go through the tree."""
        if interaction.type is not discord.InteractionType.component:
            return
        if self._commands is None:
            return await tell(interaction, "just back")
        try:
            await self._commands.press(interaction)
        except Exception as error:
            await failed(interaction, error)

    async def _hear(self, interaction: Interaction, text: str) -> None:
        if self._commands is None:
            return await tell(interaction, "just back")
        await self._commands.hear(interaction, text)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Called by the library before each new session. Raises when there have been far too many."""
        if shard_id is None:  # Shards begin many by nature, and the library would go on regardless.
            self._sessions.begin()
        if not initial:
            await asyncio.sleep(self._pace.identify_pause)

    async def on_error(self, event_method: str, /, *args: Any, **kwargs: Any) -> None:
        """A handler failed: said without what it was about."""
        error = sys.exception()
        log.error("discord: the handler %s failed: %s", event_method, error and where(error))


class SingleClient(Handlers):
    """One connection, for a bot of up to some thousand servers."""


class ShardedClient(Handlers, discord.AutoShardedClient):
    """As many connections as Discord advises."""


def make_client(settings: DiscordSettings, pace: Pace, sessions: Sessions, shards: int = 1) -> Handlers:
    """A client for so many shards. It keeps no messages and no members, and mentions nobody."""
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # Nobody wants it to speak.
    kind = ShardedClient if shards > 1 else SingleClient
    client = kind(
        intents=settings.intents,
        shard_count=shards if shards > 1 else None,
        allowed_mentions=discord.AllowedMentions.none(),
        max_messages=None,
        chunk_guilds_at_startup=False,
        member_cache_flags=discord.MemberCacheFlags.none(),
        guild_ready_timeout=pace.guilds,
        heartbeat_timeout=pace.silence,
    )
    client.prepare(pace, sessions)
    return client


def _forgiving(kind: str, parse: Callable[[Any], object]) -> Callable[[Any], None]:
    """The library's reader for a kind of event, with an end to the session for none that it cannot read."""

    def read(data: Any) -> None:
        try:
            parse(data)
        except Exception as error:
            log.warning("discord: an event of the kind %s cannot be read: %s", kind, where(error))

    return read
