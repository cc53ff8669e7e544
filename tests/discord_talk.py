"""Runs the real adapter on the real library against the emulator, for tests: one async context, from start to end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from unittest.mock import patch

from discord_server import BOT_ID, TOKEN, DiscordServer
from discord_world import Json
from fakes import MemorySpine

from adapters.admission import Admission
from adapters.base import Spine
from adapters.discord import DiscordAdapter
from adapters.discord_settings import Pace
from chatbot.access import Access, Limits

FAST = Pace(identify_pause=0.01, guilds=0.02, typing=0.05, defer=1.0, retry=0.01)


@dataclass
class Run:
    """An adapter that runs: `task` ends with it."""

    adapter: DiscordAdapter
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Cancel it, as SIGTERM does, and see it end."""
        self.task.cancel()
        await asyncio.wait([self.task])

    async def outcome(self) -> BaseException | None:
        """How it ended by itself."""
        await asyncio.wait([self.task], timeout=30)
        return self.task.exception()


@asynccontextmanager
async def adapter(
    server: DiscordServer,
    spine: Spine,
    settings: Mapping[str, object] | None = None,
    *,
    admission: Admission | None = None,
    pace: Pace = FAST,
    token: str = TOKEN,
    connects: bool = True,
    drain_s: float = 5.0,
) -> AsyncIterator[Run]:
    """The adapter on the emulator, connected unless it is said not to get there; stopped in the end."""
    with patch.dict(os.environ, {"DISCORD_BOT_TOKEN": token, "DISCORD_API_URL": server.api_url}):
        made = DiscordAdapter(settings or {}, admission or Admission(Access(), Limits()), drain_s, pace=pace)
        run = Run(made, asyncio.create_task(made.run(spine)))
        try:
            if connects:
                await connected(server, run)
            yield run
        finally:
            await run.stop()


async def connected(server: DiscordServer, run: Run) -> None:
    """Wait until the bot is there; raise what ended it before."""
    await server.until(lambda: server.gateway.is_connected() or run.task.done())
    if run.task.done():
        run.task.result()


@asynccontextmanager
async def talk(
    settings: Mapping[str, object] | None = None, *, admission: Admission | None = None
) -> AsyncIterator[tuple[DiscordServer, MemorySpine]]:
    """A server, a spine that answers "re: ..." and the adapter between them."""
    spine = MemorySpine()
    async with DiscordServer() as server, adapter(server, spine, settings, admission=admission):
        yield server, spine


async def answered(server: DiscordServer, channel: str, count: int = 1) -> list[str]:
    """What the bot has said in a channel, when it is so much."""
    await server.until(lambda: len(server.world.answers(channel)) >= count)
    return server.world.answers(channel)


async def reply_to(server: DiscordServer, person: Json, text: str) -> Json:
    """The bot's message, after somebody has mentioned it in the server's channel."""
    channel = server.world.channel
    await server.say(person, channel, f"<@{BOT_ID}> {text}")
    await answered(server, channel)
    return list(server.world.messages[channel].values())[-1]
