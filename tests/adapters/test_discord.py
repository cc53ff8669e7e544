"""Talking on Discord: who is answered, where, with what words, by the real library against the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from discord_server import BOT_ID, DiscordServer, Fault
from discord_talk import adapter, answered, reply_to, talk
from discord_world import Json
from fakes import MemorySpine

from adapters import lanes
from adapters.admission import Admission
from chatbot.access import Access, AccessList, Limits
from chatbot.messages import Message, Reply

ME = f"<@{BOT_ID}>"
Scene = Callable[[DiscordServer, MemorySpine], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lanes' pauses in a test's time."""
    monkeypatch.setattr(lanes, "_FIRST_PAUSE_S", 0.02)


def play(scene: Scene, settings: dict[str, object] | None = None, admission: Admission | None = None) -> None:
    """Play a scene between a server and a spine."""

    async def whole() -> None:
        async with talk(settings, admission=admission) as (server, spine):
            await scene(server, spine)

    asyncio.run(whole())


def test_a_direct_message_is_answered() -> None:
    """Who writes to the bot alone gets a reply to that message, and the spine a full record of it."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        ann = server.world.person("ann")
        channel = server.world.direct(ann)

        said = await server.say(ann, channel, "hello")

        assert await answered(server, channel) == ["re: hello"]
        post = server.posts()[0].body
        assert str(post["message_reference"]["message_id"]) == said["id"]
        assert post["message_reference"]["fail_if_not_exists"] is False
        await server.until(lambda: said["id"] in spine.ids)
        message = spine.messages[0]
        assert (message.platform, message.chat, message.sender) == ("discord", channel, ann["id"])
        assert (message.message_id, message.thread, message.sent_at.tzinfo is not None) == (said["id"], None, True)
        assert [state for _, state in spine.states] == ["received", "pending", "sending", "sent"]

    play(scene)


@pytest.mark.parametrize("text", [f"{ME} hello", f"hello {ME}", f"<@!{BOT_ID}> hello"])
def test_a_mention_is_answered_without_the_mention(text: str) -> None:
    """On a server the bot answers who mentions it, and keeps what was said without the mention."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        await server.say(server.world.person("ann"), server.world.channel, text, mentions=[server.world.bot])

        assert await answered(server, server.world.channel) == ["re: hello"]

    play(scene)


def test_a_reply_to_the_bot_is_answered() -> None:
    """A reply to what the bot said is for the bot; which one it replies to is handed on."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        ann, channel = server.world.person("ann"), server.world.channel
        mine = await reply_to(server, ann, "hello")

        # Discord mentions who is replied to, which is why the text may be read.
        await server.say(ann, channel, "and you?", reply_to=mine, mentions=[server.world.bot])

        assert await answered(server, channel, 2) == ["re: hello", "re: and you?"]
        assert spine.messages[1].reply_to == mine["id"]

    play(scene)


def test_a_reply_that_hides_its_text_is_told_how_to_be_read() -> None:
    """Without the mention that Discord puts in by default, a reply comes without its text; a line says so."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        ann, channel = server.world.person("ann"), server.world.channel
        mine = await reply_to(server, ann, "hello")
        await server.say(ann, channel, "and you?", reply_to=mine)

        said = await answered(server, channel, 2)
        assert said[1] == "I cannot read a reply that does not mention me: leave the @ on, or use /chat."
        assert len(spine.messages) == 1

    play(scene)


def said_by_others(server: DiscordServer) -> list[tuple[Json, str, dict[str, Any]]]:
    """What the bot must not answer: who says it, what, and what is particular about it."""
    world = server.world
    ann, robot = world.person("ann"), world.person("robot", bot=True)
    return [
        (ann, "hello all", {}),
        (ann, "hello @everyone", {}),
        (robot, f"{ME} hello", {}),
        (world.bot, f"{ME} hello", {}),
        (ann, f"{ME} hello", {"webhook_id": "5", "application_id": "5"}),
        (ann, f"{ME} hello", {"type": 7}),
        (ann, f"{ME} hello", {"type": 99}),
    ]


def test_nobody_else_is_answered() -> None:
    """Talk among others, @everyone, bots, webhooks, itself and notices of Discord get no reply and are not kept."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        channel = server.world.channel
        for author, text, fields in said_by_others(server):
            await server.say(author, channel, text, **fields)

        await server.say(server.world.person("bea"), channel, f"{ME} last")

        await server.until(lambda: spine.messages)
        assert [message.text for message in spine.messages] == ["last"]

    play(scene)


def test_nobody_is_pinged() -> None:
    """Whatever the bot says, no call of its wakes anybody up, not even who it replies to."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        await server.say(server.world.person("ann"), server.world.channel, f"{ME} tell @everyone")
        await answered(server, server.world.channel)

        assert server.posts()[0].body["allowed_mentions"] == {"parse": []}  # replied_user is false if it is left out

    play(scene)


def test_ids_do_not_reach_the_record() -> None:
    """People, roles, channels and emoji in a text are kept by name, never by number."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        world = server.world
        bea = world.person("bea")
        text = f"{ME} ask <@{bea['id']}>, <@&{world.guild_id}> in <#{world.channel}> <:wink:123> <@77>"

        await server.say(world.person("ann"), world.channel, text, mentions=[world.bot, bea])

        await server.until(lambda: spine.messages)
        assert spine.messages[0].text == "ask @bea, @@everyone in #talk :wink: @somebody"

    play(scene)


def test_threads_are_chats_of_their_own() -> None:
    """A thread is its own context, known by its own id, and let in where its channel is."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        world = server.world
        thread = world.add_thread(world.channel)
        await server.dispatch("THREAD_CREATE", world.channels[thread])
        await server.say(world.person("ann"), thread, f"{ME} hello")

        assert await answered(server, thread) == ["re: hello"]
        assert (spine.messages[0].chat, spine.messages[0].thread) == (thread, None)

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            allowed = Access(allow=AccessList(chats=(f"discord:{server.world.channel}",)))
            async with adapter(server, spine, admission=Admission(allowed, Limits())):
                await scene(server, spine)

    asyncio.run(whole())


def test_long_replies_are_cut_at_2000_characters() -> None:
    """A reply is cut between words, counted in code points as Discord counts, and arrives whole and in order."""
    words = " ".join(["wörter 字🙂"] * 500)

    async def long(message: Message) -> Reply:
        return Reply(words, "m", "echo", id=7)

    async def whole() -> None:
        spine = MemorySpine(long)
        async with DiscordServer() as server, adapter(server, spine):
            channel = server.world.direct(ann := server.world.person("ann"))
            said = await server.say(ann, channel, "go on")
            parts = await answered(server, channel, 3)

            await server.until(lambda: said["id"] in spine.ids)
            posts = server.posts()
            assert " ".join(parts) == words
            assert max(map(len, parts)) <= 2000
            assert len(spine.ids[said["id"]]) == 3
            assert ["components" in post.body and bool(post.body["components"]) for post in posts] == [
                False,
                False,
                True,
            ]

    asyncio.run(whole())


def test_one_chat_is_answered_in_order_and_others_meanwhile() -> None:
    """Answers come in the order of the messages of a channel, while a slow channel holds up no other."""
    release = asyncio.Event()

    async def slow(message: Message) -> Reply:
        if message.text == "slow":
            await release.wait()
        return Reply(f"re: {message.text}", "m", "echo")

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine(slow)):
            ann, bea = server.world.person("ann"), server.world.person("bea")
            hers, other = server.world.direct(ann), server.world.direct(bea)
            for text in ("slow", "1", "2", "3"):
                await server.say(ann, hers, text)
            await server.say(bea, other, "quick")

            assert await answered(server, other) == ["re: quick"]
            assert server.world.answers(hers) == []
            release.set()
            assert await answered(server, hers, 4) == ["re: slow", "re: 1", "re: 2", "re: 3"]

    asyncio.run(whole())


def test_typing_shows_while_the_bot_thinks() -> None:
    """The sign is given again and again until the answer is there, and not after it."""

    signs = {"first": asyncio.Event(), "second": asyncio.Event()}

    async def slow(message: Message) -> Reply:
        await signs[message.text].wait()
        return Reply("done", "m", "echo")

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine(slow)):
            channel = server.world.direct(ann := server.world.person("ann"))
            server.faults = [Fault("POST", "typing", 403)]
            await server.say(ann, channel, "first")
            await server.until(lambda: server.posts("/typing"))
            signs["first"].set()
            await answered(server, channel)  # A refused sign keeps nothing from being said.
            await server.say(ann, channel, "second")
            await server.until(lambda: len(server.posts("/typing")) >= 4)
            signs["second"].set()
            await answered(server, channel, 2)
            shown = len(server.posts("/typing"))
            await asyncio.sleep(0.15)

            assert len(server.posts("/typing")) <= shown + 1  # one may have been under way

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"attachments": [{"id": "1", "filename": "a.png", "size": 3, "url": "http://x/a", "proxy_url": ""}]}, ""),
        ({"sticker_items": [{"id": "1", "name": "wave", "format_type": 1}]}, ""),
        ({"mentions": []}, ME),
    ],
)
def test_a_message_without_words_gets_one_courteous_line(fields: dict[str, Any], text: str) -> None:
    """Pictures, stickers and bare mentions get a line, nothing is downloaded or kept; with words they are answered."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        channel = server.world.direct(ann := server.world.person("ann"))
        await server.say(ann, channel, text, **fields)
        await server.say(ann, channel, f"{text} look", **fields)

        assert await answered(server, channel, 2) == ["I can only read text: please write to me in words.", "re: look"]
        assert {call.method for call in server.calls if "channels" in call.path} == {"POST"}

    play(scene)


def test_the_courteous_line_is_in_the_servers_language() -> None:
    """On a server that is set to Chinese it is Chinese."""

    async def whole() -> None:
        async with DiscordServer() as server:
            server.world.locale = "zh-CN"
            async with adapter(server, MemorySpine()):
                await server.say(server.world.person("ann"), server.world.channel, ME)

                assert await answered(server, server.world.channel) == ["我只能读文字：请写给我。"]

    asyncio.run(whole())


def test_who_writes_too_fast_is_told_once() -> None:
    """Over the limit there is one notice, then silence."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        channel = server.world.direct(ann := server.world.person("ann"))
        for text in ("1", "2", "3", "4"):
            await server.say(ann, channel, text)
        other = server.world.direct(bea := server.world.person("bea"))
        await server.say(bea, other, "last")
        await answered(server, other)

        said = await answered(server, channel, 2)
        assert (said[0], said[1][:22]) == ("re: 1", "You write faster than ")
        assert len(said) == 2

    play(scene, admission=Admission(Access(), Limits(user_per_minute=1)))


def test_roles_and_guilds_are_asked_for() -> None:
    """Who may talk can be said by role and by server; direct messages are neither."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            world = server.world
            ann, bea = world.person("ann"), world.person("bea")
            world.roles[ann["id"]] = ["4321"]
            allow = AccessList(roles=("discord:4321",), guilds=(f"discord:{world.guild_id}",))
            async with adapter(server, spine, admission=Admission(Access(allow=allow), Limits())):
                await server.say(bea, world.channel, f"{ME} no role")
                await server.say(ann, world.direct(ann), "no server")
                await server.say(ann, world.channel, f"{ME} both")
                await answered(server, world.channel)

        assert [message.text for message in spine.messages] == ["both"]

    asyncio.run(whole())


def test_ambient_channels_need_the_intent_and_answer_everything() -> None:
    """With the message content intent, a channel can be named in which every message is for the bot."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            world = server.world
            other = world.add_channel(0)
            async with adapter(server, spine, {"message_content": True, "ambient": [world.channel]}):
                await server.say(world.person("ann"), other, "not here")
                await server.say(world.person("ann"), world.channel, "hello all")

                assert await answered(server, world.channel) == ["re: hello all"]
                assert len(spine.messages) == 1

    asyncio.run(whole())


def test_edits_and_deletions_reach_the_record() -> None:
    """A new text updates the row and is not answered; what is deleted, alone or in bulk, is erased."""

    async def scene(server: DiscordServer, spine: MemorySpine) -> None:
        channel = server.world.direct(ann := server.world.person("ann"))
        said = [await server.say(ann, channel, text) for text in ("one", "two", "three")]
        await server.dispatch("MESSAGE_UPDATE", said[0])  # A preview was added: nobody edited anything.
        await server.edit(said[0], "one and a half")
        await server.delete(said[0])
        await server.delete(said[1], said[2])
        await server.until(lambda: len(spine.erased) == 3)

        assert [(message.message_id, message.text) for message in spine.edited] == [(said[0]["id"], "one and a half")]
        assert spine.erased == [(channel, message["id"], None) for message in said]
        assert await answered(server, channel, 3) == ["re: one", "re: two", "re: three"]

    play(scene)
