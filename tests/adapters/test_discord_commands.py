"""Slash commands, buttons and what an operator asks of Discord, by the real library against the emulator."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from unittest.mock import patch

import pytest
from discord_server import BOT_ID, TOKEN, DiscordServer, Fault
from discord_talk import adapter, answered, reply_to
from discord_world import Json
from fakes import MemorySpine

from adapters import lanes
from adapters.admission import Admission
from adapters.base import Finding
from adapters.discord import DiscordAdapter, diagnose, sync_commands
from chatbot.access import Access, AccessList, Limits
from chatbot.conversation import Conversations
from chatbot.engine import EchoEngine
from chatbot.errors import ChatbotError, UsageError
from chatbot.messages import Message, Reply, Waiting
from chatbot.store import ConversationStore

ME = f"<@{BOT_ID}>"
COMMANDS = {"chat", "reset", "help", "privacy", "consent", "mydata", "forget", "stats", "teach"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lanes' pauses in a test's time."""
    monkeypatch.setattr(lanes, "_FIRST_PAUSE_S", 0.02)


async def told(server: DiscordServer, state: Json, count: int = 1) -> list[str]:
    """What somebody got who interacted, when it is so much."""
    await server.until(lambda: len(state["messages"]) >= count)
    return [message["content"] for message in state["messages"]]


@pytest.mark.parametrize(
    ("name", "options", "text", "hidden"),
    [
        ("chat", {"text": "hello"}, "hello", False),
        ("chat", {"text": "/mydata"}, "/mydata", True),
        ("reset", {}, "/reset", False),
        ("help", {}, "/help", True),
        ("privacy", {}, "/privacy", True),
        ("consent", {}, "/consent", True),
        ("consent", {"answer": "yes"}, "/consent yes", True),
        ("mydata", {}, "/mydata", True),
        ("forget", {}, "/forget", True),
        ("forget", {"everywhere": True}, "/forget all", True),
        ("stats", {}, "/stats", True),
        ("teach", {"text": "Hi!"}, "/teach Hi!", False),
    ],
)
def test_a_slash_command_is_a_message(name: str, options: dict[str, Any], text: str, hidden: bool) -> None:
    """Each command reaches the spine as its text, is acknowledged at once, and answered unseen where it is private."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            ann = server.world.person("ann")
            state = await server.command(ann, server.world.channel, name, **options)

            assert await told(server, state) == [f"re: {text}"]
            message = spine.messages[0]
            assert (message.text, message.chat, message.sender) == (text, server.world.channel, ann["id"])
            assert state["response"]["type"] == 5
            assert (state["response"].get("data") or {}).get("flags", 0) == (64 if hidden else 0)
            assert server.world.answers(server.world.channel) == ([] if hidden else [f"re: {text}"])

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("help", {}, "/help 中文"),
        ("consent", {}, "/consent 状态"),
        ("consent", {"answer": "yes"}, "/consent 同意"),
        ("forget", {}, "/forget 中文"),
        ("forget", {"everywhere": True}, "/forget all"),
    ],
)
def test_who_has_set_discord_to_chinese_is_answered_in_chinese(name: str, options: dict[str, Any], text: str) -> None:
    """The language that Discord names goes with the command."""

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine()):
            ann = server.world.person("ann")
            state = await server.command(ann, server.world.direct(ann), name, locale="zh-CN", **options)

            assert await told(server, state) == [f"re: {text}"]

    asyncio.run(whole())


def test_a_command_is_acknowledged_before_its_answer_is_there() -> None:
    """However long the answer takes, Discord has its sign at once, and the answer comes later, in its parts."""
    release = asyncio.Event()

    async def slow(message: Message) -> Reply:
        await release.wait()
        return Reply("word " * 600, "m", "echo", id=1)

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine(slow)):
            ann = server.world.person("ann")
            state = await server.command(ann, server.world.channel, "chat", text="hello")
            await server.until(lambda: state["response"])
            assert (state["response"]["type"], state["messages"]) == (5, [])
            release.set()

            parts = await told(server, state, 2)
            assert " ".join(parts) == ("word " * 600).strip()
            assert [bool(message["components"]) for message in state["messages"]] == [False, True]

    asyncio.run(whole())


def test_a_later_part_that_may_have_arrived_is_not_sent_again() -> None:
    """Nothing would keep Discord from showing it twice, so what became of it is put down as unknown."""

    async def long(message: Message) -> Reply:
        return Reply("word " * 600, "m", "echo")

    async def whole() -> None:
        spine = MemorySpine(long)
        async with DiscordServer() as server, adapter(server, spine):
            server.faults = [Fault("POST", "^/webhooks", done=True)]
            state = await server.command(server.world.person("ann"), server.world.channel, "chat", text="hello")
            await server.until(lambda: not spine.kept and spine.states)

            assert len(state["messages"]) == 2
            assert spine.states[-1] == ("i" + state["payload"]["id"], "unknown")

    asyncio.run(whole())


def test_an_expired_interaction_is_answered_in_the_channel_or_in_private() -> None:
    """When Discord no longer takes the answer, it goes to the channel; what is private goes to the person alone."""
    release = asyncio.Event()

    async def slow(message: Message) -> Reply:
        await release.wait()
        return Reply(f"re: {message.text}", "m", "echo")

    async def whole() -> None:
        spine = MemorySpine(slow)
        async with DiscordServer() as server, adapter(server, spine):
            world = server.world
            ann = world.person("ann")
            states = [await server.command(ann, world.channel, "chat", text="hello")]
            states.append(await server.command(ann, world.channel, "mydata"))
            await server.until(lambda: all(state["response"] for state in states))
            for state in states:
                state["expired"] = True
            release.set()

            assert await answered(server, world.channel) == ["re: hello"]
            assert await answered(server, world.direct(ann)) == ["re: /mydata"]

    asyncio.run(whole())


@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize(("name", "options"), [("chat", {"text": "hello"}), ("mydata", {})])
def test_a_command_of_an_earlier_start_is_answered_in_its_place(
    store: ConversationStore, name: str, options: dict[str, Any], arrived: bool
) -> None:
    """Killed while its answer was being given, the next start gives it, once and as unseen as it was, by the store."""

    async def whole() -> None:
        spine = Conversations(store, EchoEngine())
        async with DiscordServer() as server:
            world = server.world
            ann = world.person("ann")
            async with adapter(server, spine, drain_s=0.01):
                server.faults = [Fault("PATCH", "@original", 0, times=1000, done=arrived)]
                state = await server.command(ann, world.channel, name, **options)
                await server.until(lambda: [call for call in server.calls if call.method == "PATCH"])
            server.faults = []
            async with adapter(server, spine):
                await server.until(lambda: not store.waiting("discord"))
                assert len(state["messages"]) == 1
                assert state["messages"][0]["content"]
                assert bool(state["messages"][0].get("flags", 0) & 64) == (name == "mydata")
                assert len(world.answers(world.channel)) == (name == "chat")
                assert world.answers(world.direct(ann)) == []

    asyncio.run(whole())


def test_an_unseen_answer_is_not_given_twice_when_its_place_is_gone() -> None:
    """What may have been seen by then is not sent again; what certainly was not goes to the person alone."""

    async def whole(state: Literal["pending", "sending"]) -> list[str]:
        spine = MemorySpine()
        async with DiscordServer() as server:
            ann = server.world.person("ann")
            an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
            asked = Message("discord", server.world.channel, ann["id"], "", "i5", an_hour_ago, ticket="private 7 gone")
            spine.kept["discord", asked.chat, None, "i5"] = Waiting(asked, Reply("yours", "m", "command"), state)
            async with adapter(server, spine):
                await server.until(lambda: not spine.kept)
            assert server.world.answers(server.world.channel) == []
            return server.world.answers(server.world.direct(ann))

    assert asyncio.run(whole("pending")) == ["yours"]
    assert asyncio.run(whole("sending")) == []


def test_duplicate_interactions_are_answered_once() -> None:
    """An interaction that is replayed is one command and one answer."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            world = server.world
            ann = world.person("ann")
            state = await server.command(ann, world.channel, "chat", text="hello")
            await told(server, state)
            await server.dispatch("INTERACTION_CREATE", state["payload"])
            other = await server.command(ann, world.channel, "chat", text="last")
            await told(server, other)

            assert [message.text for message in spine.messages] == ["hello", "last"]
            assert len(state["messages"]) == 1

    asyncio.run(whole())


def test_who_is_not_let_in_is_told_unseen() -> None:
    """Somebody on the block list gets a line that only they see, not an error of Discord's."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            ann = server.world.person("ann")
            access = Access(block=AccessList(users=(f"discord:{ann['id']}",)))
            async with adapter(server, spine, admission=Admission(access, Limits())):
                state = await server.command(ann, server.world.channel, "chat", text="hello")

                assert await told(server, state) == ["I cannot answer you here now."]
                assert (state["response"]["data"]["flags"], spine.messages) == (64, [])

    asyncio.run(whole())


def test_buttons_rate_a_reply_and_outlive_a_restart() -> None:
    """Thumbs under a reply rate it, before and after a restart; the thanks are for who pressed alone."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            world = server.world
            ann = world.person("ann")
            async with adapter(server, spine):
                reply = await reply_to(server, ann, "hello")
            up, down = [button["custom_id"] for button in reply["components"][0]["components"]]
            async with adapter(server, spine):
                states = [await server.press(ann, reply, custom_id) for custom_id in (up, down)]

                assert [await told(server, state) for state in states] == [["Glad you liked it."]] * 2
                assert (up, down) == ("fb:1:+", "fb:1:-")
                assert spine.rated == [(world.channel, ann["id"], 1, rating) for rating in (1, -1)]
                assert {state["response"]["data"]["flags"] for state in states} == {64}

    asyncio.run(whole())


@pytest.mark.parametrize(
    "custom_id",
    [
        "fb:2:+",
        "fb:99999999999999999999999:+",
        "fb:1:+\n",
        "fb:-1:+",
        "fb:１:+",
        "consent:yes",
        "/consent yes",
        "'; DROP TABLE feedback; --",
        "",
        "x" * 100,
    ],
)
def test_hostile_buttons_rate_nothing(custom_id: str) -> None:
    """Custom ids that are not ours, or name no reply there, get a line and do nothing."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "hello")
            await answered(server, channel)
            reply = list(server.world.messages[channel].values())[-1]

            state = await server.press(ann, reply, custom_id)

            assert await told(server, state) == ["I no longer know this one: please try /help."]
            assert {reply_id for _, _, reply_id, _ in spine.rated} <= {2}

    asyncio.run(whole())


def test_unknown_commands_and_failures_get_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """A command from an earlier sync, and one that fails, are told of unseen; the log has no word of what was said."""

    class Failing(MemorySpine):
        async def accept(self, message: Message) -> bool:
            raise ValueError(message.text)

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, Failing()):
            ann = server.world.person("ann")
            old = await server.command(ann, server.world.channel, "ask", text="hello")
            failing = await server.command(ann, server.world.channel, "chat", text="my secret")

            assert await told(server, old) == ["I no longer know this one: please try /help."]
            assert await told(server, failing) == ["That did not work: please try again later."]

    asyncio.run(whole())
    assert "ValueError" in caplog.text
    assert "my secret" not in caplog.text


def operator(server: DiscordServer, token: str = TOKEN) -> AbstractContextManager[object]:
    """The environment of an operator's command."""
    return patch.dict(os.environ, {"DISCORD_BOT_TOKEN": token, "DISCORD_API_URL": server.api_url})


def test_commands_are_told_to_discord_only_on_demand() -> None:
    """Starting registers nothing; syncing does, all nine, with what they do in English and Chinese."""

    async def whole() -> None:
        async with DiscordServer() as server:
            async with adapter(server, MemorySpine()):
                assert server.world.commands == []
            with operator(server):
                assert await sync_commands({}) == len(COMMANDS)

            known = {command["name"]: command for command in server.world.commands}
            assert set(known) == COMMANDS
            assert known["help"]["description_localizations"]["zh-CN"] == "我会做什么"
            assert server.gateway.counted["IDENTIFY"] == 1

    asyncio.run(whole())


def test_syncing_says_why_it_failed() -> None:
    """A refused token is the operator's to mend, an outage is not."""

    async def whole() -> None:
        async with DiscordServer() as server:
            with operator(server, "wrong"), pytest.raises(UsageError, match="DISCORD_BOT_TOKEN"):
                await sync_commands({})
            server.faults = [Fault("PUT", "commands", 503)]
            with operator(server), pytest.raises(ChatbotError, match="try again later"):
                await sync_commands({})

    asyncio.run(whole())


async def look(server: DiscordServer, settings: Mapping[str, object], token: str = TOKEN) -> dict[str, Finding]:
    """What diagnosis finds, by the first words."""
    with operator(server, token):
        return {" ".join(found.what.split()[:3]): found for found in await diagnose(settings)}


def test_diagnosis_finds_what_is_wrong_and_changes_nothing() -> None:
    """Each fault is named with its cure; a bot that is set up well has none, and no session is begun."""

    async def whole() -> None:
        async with DiscordServer() as server:
            new = await look(server, {})
            with operator(server):
                await sync_commands({})
            well = await look(server, {"message_content": True})
            server.world.flags, server.remaining = 0, 0
            ill = await look(server, {"message_content": True})
            refused = await look(server, {}, "wrong")
            none = await look(server, {}, "")
            mistyped = await look(server, {"message_contents": True})

            assert not new["Discord does not"].ok
            assert "sync" in new["Discord does not"].mend
            assert all(found.ok and not found.mend for found in well.values())
            assert "Message Content Intent" in ill["Discord does not"].mend
            assert not ill["sessions left today:"].ok
            assert "DISCORD_BOT_TOKEN" in refused["Discord does not"].mend
            assert "DISCORD_BOT_TOKEN" in none["Discord needs a"].mend
            assert "message_content" in mistyped["discord"].mend
            assert server.gateway.counted["IDENTIFY"] == 0
        gone = await look(server, {})
        assert "network" in gone["Discord cannot be"].mend

    asyncio.run(whole())


@pytest.mark.parametrize(
    "settings",
    [
        {"message_contents": True},
        {"message_content": "yes"},
        {"message_content": True, "ambient": "12345"},
        {"message_content": True, "ambient": ["talk"]},
        {"merge_burst_s": -1.0},
        {"ambient": ["12345"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    """A mistyped or contradictory setting is named before anything is opened."""
    with pytest.raises(UsageError, match="discord: "):
        DiscordAdapter(settings, Admission(Access(), Limits()), 5.0)
