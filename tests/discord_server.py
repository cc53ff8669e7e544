"""Discord on a loopback socket: REST and gateway, as far as a bot that talks exercises them, with faults on demand.

It keeps a record of all calls and their times. Nothing of the library under test is used here.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from discord_gateway import Gateway, seen_with
from discord_world import APP_ID, BOT_ID, CONTENT_INTENT, TOKEN, Json, RefusedError, World

__all__ = ["APP_ID", "BOT_ID", "TOKEN", "Call", "DiscordServer", "Fault"]

_PREFIX = "/api/v10"


@dataclass(frozen=True, slots=True)
class Call:
    """A REST call as it came."""

    at: float
    method: str
    path: str
    body: Json = field(default_factory=dict)
    status: int = 0


@dataclass(slots=True)
class Fault:
    """What happens to the next `times` calls that match. `done`: only after the call was carried out.

    `status` 0 is a connection that breaks; `retry_after` belongs to a 429, which comes from Cloudflare without `via`.
    """

    method: str
    path: str
    status: int = 0
    times: int = 1
    done: bool = False
    retry_after: float = 0.0
    via: bool = True


class DiscordServer:
    """Discord, while it is open. `world` is what it knows; `api_url` is for DISCORD_API_URL."""

    def __init__(self, *, shards: int = 1, heartbeat_s: float = 40.0) -> None:
        self.world = World()
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.chaos: Callable[[str, str], Fault | None] | None = None  # a fault for a method and a path, drawn anew
        self.gateway = Gateway(self.world, shards, heartbeat_s)
        self.shards = shards
        self.remaining = 1000  # sessions
        self.per_window, self.window_s = 50, 1.0  # messages a channel
        self._windows: dict[str, tuple[float, int]] = {}
        self._port = 0

    async def __aenter__(self) -> DiscordServer:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def api_url(self) -> str:
        """The base of the REST API."""
        return f"http://127.0.0.1:{self._port}{_PREFIX}"

    async def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/gateway", self.gateway.handle)
        app.router.add_route("*", f"{_PREFIX}/{{path:.*}}", self._rest)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.gateway.url = f"ws://127.0.0.1:{self._port}/gateway"

    async def close(self) -> None:
        """Stop listening; connections break."""
        await self.gateway.drop()
        await self._runner.cleanup()

    async def until(self, holds: Callable[[], object], limit_s: float = 30.0) -> None:
        """Wait until something holds. TimeoutError says it never did."""
        async with asyncio.timeout(limit_s):
            while not holds():
                await asyncio.sleep(0.005)

    async def connected(self) -> None:
        """Wait until the bot has a session on every shard."""
        await self.until(self.gateway.is_connected)

    async def say(self, person: Json, channel: str, text: str, **fields: Any) -> Json:
        """Somebody writes; `quietly` is without an event, as if the gateway had been away."""
        quietly = fields.pop("quietly", False)
        message = self.world.message(person, channel, text, **fields)
        if not quietly:
            await self.dispatch("MESSAGE_CREATE", message)
        return message

    async def edit(self, message: Json, text: str) -> None:
        """Somebody changes what they wrote."""
        message |= {"content": text, "edited_timestamp": message["timestamp"]}
        await self.dispatch("MESSAGE_UPDATE", message)

    async def delete(self, *messages: Json) -> None:
        """Somebody deletes messages of a channel, several at once."""
        channel = messages[0]["channel_id"]
        for message in messages:
            del self.world.messages[channel][message["id"]]
        place = {"channel_id": channel, **({"guild_id": self.world.guild_id} if "guild_id" in messages[0] else {})}
        if len(messages) == 1:
            await self.dispatch("MESSAGE_DELETE", {"id": messages[0]["id"], **place})
        else:
            await self.dispatch("MESSAGE_DELETE_BULK", {"ids": [message["id"] for message in messages], **place})

    async def command(self, person: Json, channel: str, name: str, locale: str = "en-US", **options: Any) -> Json:
        """Somebody gives a slash command; the state of the interaction."""
        kinds = {str: 3, int: 4, bool: 5}
        given = [{"name": key, "type": kinds[type(value)], "value": value} for key, value in options.items()]
        data = {"id": APP_ID, "name": name, "type": 1, "options": given}
        return await self._interact(self.world.interact(person, channel, 2, data, locale=locale))

    async def press(self, person: Json, message: Json, custom_id: str) -> Json:
        """Somebody presses a button under a message; the state of the interaction."""
        data = {"custom_id": custom_id, "component_type": 2}
        channel = message["channel_id"]
        return await self._interact(self.world.interact(person, channel, 3, data, message=message))

    async def _interact(self, payload: Json) -> Json:
        state = self.world.interactions[payload["token"]]
        await self.dispatch("INTERACTION_CREATE", payload)
        return state

    async def dispatch(self, kind: str, data: Any, *, times: int = 1) -> None:
        """An event of the gateway."""
        await self.gateway.dispatch(kind, data, times=times)

    def posts(self, ending: str = "/messages") -> list[Call]:
        """The calls that sent something to such a path."""
        return [call for call in self.calls if call.method == "POST" and call.path.endswith(ending)]

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(_PREFIX)
        body = json.loads(await request.text() or "{}")
        call = Call(time.monotonic(), request.method, path, body if isinstance(body, dict) else {"list": body})
        fault = next((f for f in self.faults if f.times and f.method == call.method and re.search(f.path, path)), None)
        if fault is None and self.chaos is not None:
            fault = self.chaos(call.method, path)
        status, answer, headers = 401, {"code": 0, "message": "401: Unauthorized"}, {"Via": "1.1 google"}
        # What belongs to an interaction is known by its token alone.
        known = call.path.startswith(("/interactions", "/webhooks"))
        known = known or request.headers.get("Authorization") == f"Bot {TOKEN}"
        if known and (fault is None or fault.done):
            status, answer = await self._answer(call, request, headers)
        if fault is not None:
            fault.times -= 1
            status, answer = fault.status, {"message": "fault", "code": 0, "retry_after": fault.retry_after}
            if fault.retry_after:
                headers |= {"Retry-After": str(fault.retry_after)}
            if not fault.via:
                del headers["Via"]
        self.calls.append(Call(call.at, call.method, path, call.body, status))
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        text = "" if status == 204 else json.dumps(answer)
        if text:
            headers["Content-Type"] = "application/json"
        return web.Response(status=status or 500, body=text.encode(), headers=headers)

    async def _answer(self, call: Call, request: web.Request, headers: dict[str, str]) -> tuple[int, Any]:
        """The status and body for a call that nothing stands against."""
        limited = re.fullmatch(r"/channels/(\d+)/messages", call.path)
        if limited and call.method == "POST":
            left = self._take(limited[1], headers)
            if left is not None:
                return 429, {"message": "You are being rate limited.", "retry_after": left, "global": False}
        try:
            answer = self._carry_out(call, request.query)
        except RefusedError as error:
            return error.status, error.body
        if limited and call.method == "POST" and not answer.pop("again", False):
            await self.dispatch("MESSAGE_CREATE", answer)
        return (204, None) if answer is None else (200, answer)

    def _take(self, channel: str, headers: dict[str, str]) -> float | None:
        """Count a message against a channel's limit; the seconds to wait if it is over it."""
        now = time.monotonic()
        begun, used = self._windows.get(channel, (now, 0))
        if now - begun >= self.window_s:
            begun, used = now, 0
        self._windows[channel] = (begun, used + 1)
        wait = max(0.0, self.window_s - (now - begun))
        headers |= {
            "X-RateLimit-Limit": str(self.per_window),
            "X-RateLimit-Remaining": str(max(0, self.per_window - used - 1)),
            "X-RateLimit-Reset": str(time.time() + wait),
            "X-RateLimit-Reset-After": str(wait),
            "X-RateLimit-Bucket": "messages",
        }
        return wait if used >= self.per_window else None

    def _carry_out(self, call: Call, query: Any) -> Any:
        world, body = self.world, call.body
        match [call.method, *call.path.strip("/").split("/")]:
            case ["GET", "users", "@me"]:
                return world.bot
            case ["GET", "oauth2", "applications", "@me"]:
                basics = {"id": APP_ID, "name": "familect", "description": "", "icon": None, "verify_key": "00"}
                rest = {"bot_public": True, "bot_require_code_grant": False, "owner": world.person("owner")}
                return {**basics, **rest, "flags": world.flags}
            case ["GET", "gateway", "bot"]:
                limit = {"total": 1000, "remaining": self.remaining, "reset_after": 100, "max_concurrency": 1}
                return {"url": self.gateway.url, "shards": self.shards, "session_start_limit": limit}
            case ["POST", "users", "@me", "channels"]:
                return world.channel_of(world.direct({**world.person("x"), "id": str(body["recipient_id"])}))
            case ["GET", "channels", channel]:
                return world.channel_of(channel)
            case ["GET", "channels", channel, "messages"]:
                content = any(session.intents & CONTENT_INTENT for session in self.gateway.sessions.values())
                count, after, before = int(query.get("limit", 50)), query.get("after"), query.get("before")
                found = world.history(channel, after=after, before=before, limit=count)
                direct = "guild_id" not in world.channel_of(channel)
                return [m if content or direct else seen_with(0, {**m, "guild_id": "0"}) for m in found]
            case ["POST", "channels", channel, "messages"]:
                return world.post(channel, body)
            case ["POST", "channels", _, "typing"]:
                return None
            case ["GET", "guilds", _, "members", person]:
                return {**world.member(person), "user": {**world.person("x"), "id": person}}
            case ["POST", "interactions", _, token, "callback"]:
                return world.respond(token, body)
            case ["PATCH", "webhooks", _, token, "messages", "@original"]:
                return world.edit_response(token, body)
            case ["POST", "webhooks", _, token]:
                return world.follow_up(token, body)
            case ["PUT", "applications", _, "commands"]:
                world.commands = [{"id": str(n + 1), "application_id": APP_ID, **c} for n, c in enumerate(body["list"])]
                return world.commands
            case ["GET", "applications", _, "commands"]:
                return world.commands
        return self._unknown()

    def _unknown(self) -> Any:
        raise RefusedError(404, 0, "404: Not Found")
