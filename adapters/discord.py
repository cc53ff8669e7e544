"""Discord, by discord.py: what people write to the bot becomes messages, and replies become Discord's calls.

Nothing of the library is seen outside the modules `adapters.discord*`. The session follows docs/decisions/delivery.md:
a message is Discord's until it is accepted, and found again in the channel's history if we die before that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import discord
from discord.gateway import KeepAliveHandler
from discord.http import Route

from adapters.admission import Admission
from adapters.base import Finding, Spine
from adapters.discord_client import Handlers, Sessions, make_client
from adapters.discord_commands import DiscordCommands, Translator
from adapters.discord_inbound import PLATFORM, DiscordInbound
from adapters.discord_library import point_gateway, point_library
from adapters.discord_outbound import NETWORK_ERRORS, DiscordOutbound
from adapters.discord_settings import (
    DiscordSettings,
    Pace,
    bad_token,
    missing_intent,
    read_token,
)
from adapters.lanes import Lanes
from chatbot.errors import ChatbotError, UsageError

log = logging.getLogger(__name__)

_BAD_TOKEN, _BAD_INTENTS = 4004, 4014  # codes with which the gateway closes
_CLEANLY = 1000
_HANGING_UP_S = 2.0  # for an answer to our goodbye


class DiscordAdapter:
    """One bot. `settings` is the section `discord` of the configuration; the token comes from the environment.

    UsageError for settings that make no sense.
    """

    name = PLATFORM

    def __init__(
        self, settings: Mapping[str, object], admission: Admission, drain_seconds: float, *, pace: Pace | None = None
    ) -> None:
        self._settings = DiscordSettings.read(settings)
        self._admission = admission
        self._drain_seconds = drain_seconds
        self._pace = pace or Pace()
        self._sessions = Sessions()

    async def run(self, spine: Spine) -> None:
        """Talk until cancelled; then take nothing new, send what is being answered, and leave.

        Raises UsageError for a token or an intent that Discord refuses, anything else for what may pass by itself: a
        ChatbotError with the cause where Discord cannot be reached.
        """
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with _client(self._settings, self._pace, self._sessions) as client, _ended(client) as tasks:
            outbound = DiscordOutbound(client, self._pace, refused)
            async with Lanes(
                spine,
                outbound,
                self.name,
                resend=outbound.may_repeat,
                drain_seconds=self._drain_seconds,
                merge_burst_s=self._settings.merge_burst_s,
            ) as lanes:
                inbound = DiscordInbound(client, spine, self._admission, lanes, self._settings, self._pace)
                client.attach(inbound, DiscordCommands(spine, self._admission, lanes, inbound, self._pace))
                tasks += [asyncio.create_task(inbound.run()), asyncio.create_task(_connect(client))]
                try:
                    await asyncio.wait((refused, *tasks), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    client.detach()
                    tasks[0].cancel()
        # What Discord says of the token is the cause of whatever else went wrong.
        for task in (refused, *tasks):
            error = task.exception() if task.done() and not task.cancelled() else None
            if error is not None:
                raise error
        raise ConnectionError("Discord has closed the connection")


async def sync_commands(settings: Mapping[str, object]) -> int:
    """Tell Discord the slash commands, for all servers and direct messages; how many there are.

    For an operator who has installed or updated the bot; Discord takes 200 new commands a day, so not at every start.
    UsageError if Discord refuses the token, ChatbotError if it cannot be reached.
    """
    client = make_client(DiscordSettings.read(settings), Pace(), Sessions())
    try:
        await _login(client)
        await client.tree.set_translator(Translator())
        return len(await client.tree.sync())
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        raise ChatbotError(f"Discord did not take the commands ({type(error).__name__}): try again later") from None
    finally:
        await client.close()


async def diagnose(settings: Mapping[str, object]) -> Sequence[Finding]:
    """What a look at the token, the intents, the commands and the sessions left for today gave; nothing is changed."""
    client: Handlers | None = None
    try:
        wanted = DiscordSettings.read(settings)
        client = make_client(wanted, Pace(), Sessions())
        await _login(client)
        return [Finding(True, "the token is accepted"), *await _looked_at(client, wanted)]
    except UsageError as error:
        what, _, mend = str(error).partition(": ")
        return [Finding(False, what, mend)]
    except (discord.HTTPException, *NETWORK_ERRORS) as error:
        what, _, mend = str(_unreachable(error)).partition(": ")
        return [Finding(False, what, mend)]
    finally:
        if client is not None:
            await client.close()


async def _looked_at(client: Handlers, wanted: DiscordSettings) -> Sequence[Finding]:
    app = client.application
    findings = []
    if not wanted.message_content:
        findings.append(Finding(True, "no privileged intent is asked for"))
    elif app is not None and (app.flags.gateway_message_content or app.flags.gateway_message_content_limited):
        findings.append(Finding(True, "the message content intent is granted"))
    else:
        what, _, mend = str(missing_intent()).partition(": ")
        findings.append(Finding(False, what, mend))
    if app is not None and app.interactions_endpoint_url:
        mend = "empty 'Interactions Endpoint URL' in the developer portal"
        findings.append(Finding(False, "slash commands and buttons go to a web address, not to this bot", mend))
    known = {command.name for command in await client.tree.fetch_commands()}
    missing = sorted({command.name for command in client.tree.get_commands()} - known)
    if missing:
        what = f"Discord does not know the commands {', '.join(missing)}"
        findings.append(Finding(False, what, "run chatbot discord-sync"))
    else:
        findings.append(Finding(True, "the slash commands are known"))
    gateway = await _gateway(client)
    enough = gateway.remaining >= gateway.shards
    mend = "" if enough else f"wait {gateway.reset_s / 3600:.1f} hours, and find out what restarts the bot so often"
    findings.append(Finding(enough, f"sessions left today: {gateway.remaining}", mend))
    return findings


@dataclass(frozen=True, slots=True)
class _Gateway:
    """What Discord says of its gateway: how many connections it advises, how many sessions may begin today."""

    url: str
    shards: int
    remaining: int
    reset_s: float


async def _gateway(client: Handlers) -> _Gateway:
    data = await client.http.request(Route("GET", "/gateway/bot"))
    limit = data.get("session_start_limit", {})
    return _Gateway(
        data["url"], int(data.get("shards", 1)), int(limit.get("remaining", 1000)), limit.get("reset_after", 0) / 1000
    )


@asynccontextmanager
async def _client(settings: DiscordSettings, pace: Pace, sessions: Sessions) -> AsyncIterator[Handlers]:
    """A client that is logged in, for as many shards as Discord advises, and knows its gateway; closed in the end."""
    client = make_client(settings, pace, sessions)
    try:
        try:
            await _login(client)
            gateway = await _gateway(client)
            if gateway.shards > 1:
                await client.close()
                client = make_client(settings, pace, sessions, gateway.shards)
                await _login(client)
        except (discord.HTTPException, *NETWORK_ERRORS) as error:
            raise _unreachable(error) from None
        if gateway.remaining < gateway.shards:
            log.warning("discord: no session may begin for %d s", gateway.reset_s)
            await asyncio.sleep(gateway.reset_s)
        point_gateway(gateway.url)
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _ended(client: Handlers) -> AsyncIterator[list[asyncio.Task[None]]]:
    """A list for tasks that use the client: in the end they are cancelled, then it is closed.

    In this order Discord is left with code 1000, and shows the bot as gone: while the library still receives, it
    closes with its own.
    """
    tasks: list[asyncio.Task[None]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _hang_up(client)
        await client.close()


async def _hang_up(client: Handlers) -> None:
    """End all connections, those that were only being made, too: the library knows of none but the last."""
    for heart in threading.enumerate():
        if isinstance(heart, KeepAliveHandler) and heart.ws.token == client.http.token:
            with suppress(RuntimeError, *NETWORK_ERRORS):
                async with asyncio.timeout(_HANGING_UP_S):
                    await heart.ws.close(code=_CLEANLY)
            heart.stop()
            await asyncio.to_thread(heart.join, _HANGING_UP_S)


async def _login(client: Handlers) -> None:
    point_library()
    try:
        await client.login(read_token())
    except discord.LoginFailure:
        raise bad_token() from None


async def _connect(client: Handlers) -> None:
    """Keep the client connected until it is closed. What the gateway closes for in good reason is a UsageError."""
    try:
        await client.connect()
    except discord.PrivilegedIntentsRequired:
        raise missing_intent() from None
    except discord.ConnectionClosed as error:
        refusals = {_BAD_TOKEN: bad_token(), _BAD_INTENTS: missing_intent()}
        raise refusals.get(error.code, error) from None
    except AttributeError:
        if client.ws is not None:
            raise
        # The library has not thought of a first connection that fails.
        raise ChatbotError("Discord's gateway cannot be reached: check the network and its proxy") from None


def _unreachable(error: Exception) -> ChatbotError:
    """What to raise, or say, when a call at the start fails: the innermost cause by its class, never its address."""
    cause = f"status {error.status}" if isinstance(error, discord.HTTPException) else ""
    return ChatbotError(
        f"Discord cannot be reached ({cause or type(error.__cause__ or error).__name__}): "
        "check the network, and DISCORD_API_URL if it is set"
    )
