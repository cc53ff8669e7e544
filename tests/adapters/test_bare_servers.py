"""Both messengers against servers that do the least a bot can live with: other people's emulators, and old versions.

The servers here share nothing with the large ones of `telegram_server` and `discord_server`. What they do not know they
refuse, each in several ways; what they say lacks everything that a dialogue does not need.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import zlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from discord_talk import FAST
from talking import rows
from telegram_stage import AT_ONCE, QUICK

from adapters.admission import Admission
from adapters.base import Adapter
from adapters.discord import DiscordAdapter
from adapters.telegram import TelegramAdapter
from chatbot.access import Access, Limits
from chatbot.conversation import Conversations
from chatbot.engine import EchoEngine
from chatbot.store import ConversationStore

Json = dict[str, Any]
Refuse = Callable[[], web.Response]
FREELY = Admission(Access(), Limits(0, 0))
REFUSALS: dict[str, Refuse] = {
    "404": lambda: web.json_response({"ok": False, "error_code": 404, "description": "Not Found"}, status=404),
    "404 in words": lambda: web.Response(status=404, text="no such page"),
    "200 that says no": lambda: web.json_response({"ok": False, "error_code": 404, "description": "Not Found"}),
    "405": lambda: web.Response(status=405, text="405: Method Not Allowed"),
    "501": lambda: web.Response(status=501, text="not implemented"),
}


@dataclass
class Server:
    """Listens, and answers by `answer`; `said` is what the bot has said, newest last."""

    refuse: Refuse = REFUSALS["404"]
    said: list[Json] = field(default_factory=list)
    pressed: list[Json] = field(default_factory=list)  # what it answered to presses of a button
    news: list[Json] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def __aenter__(self) -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One call."""
        raise NotImplementedError

    async def until(self, happened: Callable[[], Any]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(30):
            while not happened():
                await asyncio.sleep(0.005)


class BotApi(Server):
    """Updates and messages; no poll is held open, and the bot has no name."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The methods that there are."""
        asked: Any = await request.post()
        result: Any = None
        match request.path.rpartition("/")[2]:
            case "getMe":
                result = {"id": 7}
            case "getUpdates":
                self.news = [update for update in self.news if update["update_id"] >= int(asked.get("offset", 0))]
                result = self.news
            case "sendMessage":
                self.said.append(dict(asked))
                result = {"message_id": 1000 + next(self.numbers)}
            case "answerCallbackQuery":
                self.pressed.append(dict(asked))
                result = True
        return self.refuse() if result is None else web.json_response({"ok": True, "result": result})

    def tell(self, kind: str, content: Json) -> None:
        """An update."""
        self.news.append({"update_id": next(self.numbers), kind: content})


@dataclass
class DiscordApi(Server):
    """Messages, interactions and a gateway, packed or plain; nothing of guilds, limits, histories or applications."""

    packed: bool = False
    events: asyncio.Queue[Json] = field(default_factory=asyncio.Queue)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The calls that there are."""
        if request.path == "/gateway":
            return await self._gateway(request)
        body = json.loads(await request.text() or "{}")
        match [request.method, *request.path.removeprefix("/api/v10/").split("/")]:
            case ["GET", "users", "@me"]:
                return _json({"id": "7", "username": "bot"})
            case ["GET", "gateway", "bot"]:
                return _json({"url": f"ws://127.0.0.1:{self.port}/gateway"})
            case ["POST", "channels", channel, "messages"]:
                self.said.append(body)
                made = {"id": str(900 + next(self.numbers)), "channel_id": channel, "content": body["content"]}
                return _json(made)
            case ["POST", "interactions", _, _, "callback"]:
                return web.Response(status=204)
            case ["POST", "webhooks", *_] | ["PATCH", "webhooks", *_]:
                self.pressed.append(body)
                return _json({"id": str(next(self.numbers)), "channel_id": "5", "content": body["content"]})
        return self.refuse()

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        squeeze = zlib.compressobj()

        async def send(event: Json) -> None:
            data = json.dumps(event)
            if self.packed:
                await socket.send_bytes(squeeze.compress(data.encode()) + squeeze.flush(zlib.Z_SYNC_FLUSH))
            else:
                await socket.send_str(data)

        async def tell() -> None:
            for number in itertools.count(2):
                await send({"op": 0, "s": number, **await self.events.get()})

        await send({"op": 10, "d": {"heartbeat_interval": 40000}})
        telling = None
        async for frame in socket:
            got = json.loads(frame.data)
            if got["op"] == 1:
                await send({"op": 11})
            elif got["op"] == 2:
                ready = {"user": {"id": "7", "username": "bot"}, "session_id": "s"}
                await send({"op": 0, "t": "READY", "s": 1, "d": ready})
                telling = asyncio.create_task(tell())
        if telling is not None:
            telling.cancel()
        return socket


def _json(content: Json) -> web.Response:
    """In the one type that the library takes for JSON."""
    return web.Response(body=json.dumps(content).encode(), content_type="application/json")


def played(adapter: Adapter, store: ConversationStore, act: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    """Let people talk to an adapter that runs on the real spine."""

    async def whole() -> None:
        running = asyncio.create_task(adapter.run(Conversations(store, EchoEngine())))
        acting = asyncio.create_task(act)
        await asyncio.wait((running, acting), return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running.exception()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await acting

    return whole()


def states(url: str) -> list[Any]:
    """How it stands with each message."""
    return [state for (state,) in rows(url, "SELECT state FROM inbox ORDER BY id")]


def ratings(url: str) -> list[Any]:
    """The ratings, oldest first."""
    return [rating for (rating,) in rows(url, "SELECT rating FROM feedback ORDER BY id")]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_dialogue_on_the_least_bot_api(
    store: ConversationStore, url: str, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    """No menus, no typing, no webhooks, senders without names, chats without types: answered, stored, rated."""

    async def whole() -> None:
        async with BotApi(REFUSALS[refusal]) as server:
            monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "7:secret")
            monkeypatch.setenv("TELEGRAM_API_URL", f"http://127.0.0.1:{server.port}/")

            async def act() -> None:
                for number, text in enumerate(("hello", "how are you?")):
                    server.tell("message", {"message_id": number, "chat": {"id": 501}, "text": text})
                await server.until(lambda: len(server.said) == 2)
                assert [said["text"].rpartition("\n")[2] for said in server.said] == ["hello", "how are you?"]
                [[up, _]] = json.loads(server.said[1]["reply_markup"])["inline_keyboard"]
                under = {"message_id": 1002, "chat": {"id": 501}}
                press = {"id": "q", "from": {"id": 501}, "message": under, "data": up["callback_data"]}
                server.tell("callback_query", press)
                await server.until(lambda: server.pressed)
                assert server.pressed[0]["text"]

            await played(TelegramAdapter({}, FREELY, 2.0, pace=AT_ONCE, timing=QUICK), store, act())

    asyncio.run(whole())
    assert states(url) == ["sent"] * 2
    assert ratings(url) == [1]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("refusal", [name for name in REFUSALS if name != "200 that says no"])
def test_a_dialogue_on_the_least_discord(
    store: ConversationStore, url: str, monkeypatch: pytest.MonkeyPatch, packed: bool, refusal: str
) -> None:
    """No guilds, no limits, no application, messages of a few fields: answered, stored, rated, over two starts."""

    async def whole() -> None:
        async with DiscordApi(REFUSALS[refusal], packed=packed) as server:
            monkeypatch.setenv("DISCORD_BOT_TOKEN", "secret")
            monkeypatch.setenv("DISCORD_API_URL", f"http://127.0.0.1:{server.port}/api/v10/")
            ann = {"id": "501", "username": "ann"}

            async def say(number: int, text: str) -> None:
                message = {"id": str(number), "channel_id": "5", "author": ann, "content": text}
                server.events.put_nowait({"t": "MESSAGE_CREATE", "d": message})
                await server.until(lambda: server.said and server.said[-1]["content"].endswith(text))

            async def interact(number: int, kind: int, data: Json) -> None:
                basics = {"id": str(number), "application_id": "7", "token": f"t{number}", "type": kind, "user": ann}
                server.events.put_nowait({"t": "INTERACTION_CREATE", "d": {**basics, "channel_id": "5", "data": data}})
                before = len(server.pressed)
                await server.until(lambda: len(server.pressed) > before)

            async def first() -> None:
                await say(11, "hello")
                await say(12, "how are you?")
                [row] = server.said[-1]["components"]
                await interact(13, 3, {"custom_id": row["components"][0]["custom_id"], "component_type": 2})
                options = [{"name": "text", "type": 3, "value": "by command"}]
                await interact(14, 2, {"id": "1", "name": "chat", "type": 1, "options": options})
                assert server.pressed[-1]["content"] == "by command"

            async def second() -> None:
                await say(15, "there you are")

            for act in (first, second):
                await played(DiscordAdapter({}, FREELY, 2.0, pace=FAST), store, act())

    asyncio.run(whole())
    assert states(url) == ["sent"] * 4
    assert ratings(url) == [1]
