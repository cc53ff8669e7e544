"""What no honest client of Discord sends: logged once without its content, and the next message is answered."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from discord_server import APP_ID, BOT_ID, TOKEN, DiscordServer, Fault
from discord_talk import adapter, answered
from discord_world import Json
from fakes import MemorySpine

from adapters.discord_outbound import is_private
from adapters.discord_text import LONGEST_TEXT

ME = f"<@{BOT_ID}>"
SECRET = "a secret of mine"


def survives(*events: tuple[str, Any]) -> tuple[list[str], MemorySpine]:
    """What the bot says in a direct chat after these events, and what the spine saw; the last is "still here"."""

    async def whole() -> tuple[list[str], MemorySpine]:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            for kind, data in events:
                await server.dispatch(kind, data(server) if callable(data) else data)
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "still here")
            return await answered(server, channel), spine

    return asyncio.run(whole())


def written(**fields: Any) -> Any:
    """A message of somebody's, with some of its fields replaced, or left out if they are None."""

    def make(server: DiscordServer) -> Json:
        whole = server.world.message(server.world.person("ann"), server.world.channel, f"{ME} {SECRET}")
        return {key: value for key, value in {**whole, **fields}.items() if value is not None}

    return make


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"id": "1"},
        written(author=None),
        written(content=None),
        written(id="no number"),
        written(author={"id": SECRET}),
        written(mentions=[{"id": "5"}]),
        written(timestamp="yesterday"),
        written(message_reference={}, referenced_message={"id": "7"}),
        written(attachments=[{}]),
        written(type="talk"),
        written(channel_id="0"),
    ],
)
def test_messages_that_make_no_sense(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Missing and wrong fields end nothing, and nothing of them is logged."""
    said, _ = survives(("MESSAGE_CREATE", data))

    assert said == ["re: still here"]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("SOMETHING_NEW", {"id": "1"}),
        ("MESSAGE_CREATE", {"id": "1", "channel_id": "2", "type": 0, "content": SECRET, "timestamp": "2026-01-01"}),
        ("MESSAGE_UPDATE", {"id": "1", "channel_id": "2"}),
        ("MESSAGE_DELETE", {}),
        ("MESSAGE_DELETE_BULK", {"ids": ["x"], "channel_id": "1"}),
        ("INTERACTION_CREATE", {"id": "1", "type": 2, "token": "t", "data": {}}),
        ("INTERACTION_CREATE", {"id": "1", "type": 99}),
        ("GUILD_CREATE", {"name": SECRET}),
        ("THREAD_CREATE", {"id": "1"}),
        ("CHANNEL_UPDATE", {}),
    ],
)
def test_events_that_make_no_sense(kind: str, data: Json, caplog: pytest.LogCaptureFixture) -> None:
    """So do events of unknown kinds, and of known ones without what belongs to them."""
    said, _ = survives((kind, data))

    assert said == ["re: still here"]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("x" * 1_000_000, "xxx"),
        (" ".join(f"<@{n}>" for n in range(10_000)), "@somebody"),
        ("<" * 4000, "<<<"),
        ("<@" * 2000, "<@<@"),
        ("\u200b\u200d\u2066\u202e" * 500 + "hi", "\u200b"),
        ("**`[x](javascript:1)`** <script>", "**`[x]"),
        ("\ud800 half a pair\0", "\ufffd half a pair\ufffd"),
        ("e" + "\u0301" * 3000, "e\u0301"),
        ("/etc/passwd", "/etc"),
    ],
)
def test_hostile_texts(text: str, starts: str) -> None:
    """Huge, tricky and half texts reach the spine as they are, up to what Discord itself would let through."""

    def message(server: DiscordServer) -> Json:
        ann = server.world.person("eve")
        return server.world.message(ann, server.world.direct(ann), text)

    said, spine = survives(("MESSAGE_CREATE", message))

    assert said == ["re: still here"]
    first = next(message.text for message in spine.messages if message.text != "still here")
    assert first.startswith(starts)
    assert len(first) <= LONGEST_TEXT * 4


def test_history_that_makes_no_sense() -> None:
    """A message of the past that cannot be read does not keep the bot from starting."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            world = server.world
            channel = world.direct(ann := world.person("ann"))
            async with adapter(server, spine):
                await server.say(ann, channel, "before")
                await answered(server, channel)
            await server.say(ann, channel, "missed", quietly=True)
            broken = await server.say(ann, channel, SECRET, quietly=True)
            del broken["author"]
            async with adapter(server, spine):
                await server.say(ann, channel, "after")

                assert await answered(server, channel, 3) == ["re: before", "re: missed", "re: after"]

    asyncio.run(whole())


def test_logs_hold_no_token_no_text_and_no_id(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong, and however much is logged: not the token, no words, nobody's number."""
    caplog.set_level(logging.DEBUG)
    for name in ("aiohttp.access", "asyncio"):  # the emulator's own, in the same process
        logging.getLogger(name).setLevel(logging.WARNING)
    secrets = [TOKEN, SECRET]

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine()):
            server.faults = [
                Fault("POST", "/messages$", 429, retry_after=0.01),
                Fault("POST", "/messages$"),
                Fault("POST", "/messages$", 503),
                Fault("PATCH", "@original", 404),
            ]
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, SECRET)
            await answered(server, channel)
            state = await server.command(ann, channel, "chat", text=SECRET)
            await answered(server, channel, 2)
            await server.dispatch("MESSAGE_CREATE", {"content": SECRET})
            await server.gateway.drop(forget=True)
            await server.say(ann, channel, SECRET)
            secrets.extend([channel, ann["id"], state["payload"]["token"], APP_ID])

    asyncio.run(whole())
    assert caplog.text
    assert [secret for secret in secrets if secret in caplog.text] == []


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("/mydata", True),
        ("／MyData 中文", True),
        ("/chat", False),
        ("hello", False),
        ("", False),
        ("  ", False),
        ("/", False),
    ],
)
def test_what_is_private(text: str, private: bool) -> None:
    """Answers to commands about a person are for that person, however the command is written."""
    assert is_private(text) == private
