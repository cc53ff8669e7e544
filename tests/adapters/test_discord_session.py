"""What holds over broken connections, lost answers and restarts on Discord, by the real library over real sockets."""

from __future__ import annotations

import asyncio

import pytest
from discord_server import BOT_ID, DiscordServer, Fault
from discord_talk import FAST, adapter, answered, reply_to
from discord_world import CONTENT_INTENT
from fakes import MemorySpine

from adapters import discord_client, lanes
from chatbot.errors import ChatbotError, UsageError
from chatbot.messages import Message, Reply

ME = f"<@{BOT_ID}>"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lanes' pauses in a test's time."""
    monkeypatch.setattr(lanes, "_FIRST_PAUSE_S", 0.02)


def texts(spine: MemorySpine) -> list[str]:
    """What was answered, in order."""
    return [message.text for message in spine.messages]


@pytest.mark.parametrize("fault", [Fault("POST", "/messages$", 503), Fault("POST", "/messages$")])
@pytest.mark.parametrize("done", [False, True])
def test_a_lost_answer_is_sent_again_and_shown_once(fault: Fault, done: bool) -> None:
    """After a 503 or a broken connection the same nonce goes out again: the reply is there once, done or not before."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            server.faults = [Fault(fault.method, fault.path, fault.status, times=2, done=done)]
            channel = server.world.direct(ann := server.world.person("ann"))
            said = await server.say(ann, channel, "hello")
            await server.until(lambda: said["id"] in spine.ids)

            assert server.world.answers(channel) == ["re: hello"]
            posts = server.posts()
            assert {(post.body["nonce"], post.body["enforce_nonce"]) for post in posts} == {(f"{said['id']}-0", True)}
            assert [post.status for post in posts] == [fault.status, fault.status, 200]
            assert spine.states[-1] == (said["id"], "sent")

    asyncio.run(whole())


@pytest.mark.parametrize("via", [True, False])
def test_a_429_is_obeyed(via: bool) -> None:
    """No second call before the time that Discord names, whether the library or we are told; the reply arrives."""

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine()):
            server.faults = [Fault("POST", "/messages$", 429, retry_after=0.4, via=via)]
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "hello")
            await answered(server, channel)

            first, second = server.posts()
            assert second.at - first.at >= 0.4

    asyncio.run(whole())


def test_the_limits_in_headers_are_kept() -> None:
    """The library waits by what the headers tell, so that a burst of answers meets no 429, and is sent whole."""

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine()):
            server.per_window, server.window_s = 2, 0.3
            channel = server.world.direct(ann := server.world.person("ann"))
            for number in range(5):
                await server.say(ann, channel, str(number))

            assert await answered(server, channel, 5) == [f"re: {number}" for number in range(5)]
            assert {post.status for post in server.posts()} == {200}

    asyncio.run(whole())


def test_who_cannot_be_written_to_holds_up_nobody() -> None:
    """Where the bot may not write, or no longer can, the reply is given up at once and the next is said."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            world = server.world
            ann, bea = world.person("ann"), world.person("bea")
            closed, open_ = world.direct(ann), world.direct(bea)
            world.forbidden = {closed, world.channel}
            gone = await server.say(ann, closed, "closed")
            thrown_out = await server.say(ann, world.channel, f"{ME} thrown out")
            deleted = world.direct(cid := world.person("cid"))
            lost = await server.say(cid, deleted, "deleted")
            del world.channels[deleted]
            await server.say(bea, open_, "hello")

            await answered(server, open_)
            await server.until(lambda: len(spine.ids) == 4)
            states = dict(spine.states)
            assert [states[m["id"]] for m in (gone, thrown_out, lost)] == ["failed"] * 3
            assert (
                max(
                    sum(post.path == f"/channels/{channel}/messages" for post in server.posts())
                    for channel in (closed, world.channel, deleted)
                )
                == 1
            )

    asyncio.run(whole())


def test_a_reply_to_a_deleted_message_is_still_said() -> None:
    """The message is deleted before the reply is out: it stands alone."""
    release = asyncio.Event()

    async def slow(message: Message) -> Reply:
        await release.wait()
        return Reply("here", "m", "echo")

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine(slow)):
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.delete(await server.say(ann, channel, "hello"))
            release.set()

            assert await answered(server, channel) == ["here"]

    asyncio.run(whole())


@pytest.mark.parametrize("how", ["dropped", "reconnect", "invalid but resumable"])
def test_a_resumed_session_loses_and_doubles_nothing(how: str) -> None:
    """However the connection ends, what was written meanwhile is replayed and answered once."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "before")
            await answered(server, channel)
            if how == "dropped":
                await server.gateway.drop()
            else:
                await server.gateway.send_op(*((7, None) if how == "reconnect" else (9, True)))
            await server.say(ann, channel, "meanwhile")
            await server.connected()
            await server.say(ann, channel, "after")

            assert await answered(server, channel, 3) == ["re: before", "re: meanwhile", "re: after"]
            assert (server.gateway.counted["IDENTIFY"], server.gateway.counted["RESUME"]) == (1, 1)
            assert texts(spine) == ["before", "meanwhile", "after"]

    asyncio.run(whole())


def test_duplicate_events_are_answered_once() -> None:
    """The same event three times is one message."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            channel = server.world.direct(ann := server.world.person("ann"))
            message = server.world.message(ann, channel, "hello")
            await server.dispatch("MESSAGE_CREATE", message, times=3)
            await server.say(ann, channel, "last")

            assert await answered(server, channel, 2) == ["re: hello", "re: last"]
            assert texts(spine) == ["hello", "last"]

    asyncio.run(whole())


def test_a_new_session_looks_back() -> None:
    """What was written while the session was lost is found in direct messages, channels and threads, old and new.

    Live messages wait for it, so that each channel is answered in order, and nothing is answered twice.
    """

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine):
            world = server.world
            ann = world.person("ann")
            direct, thread, silent = world.direct(ann), world.add_thread(world.channel), world.add_channel(0)
            await server.dispatch("THREAD_CREATE", world.channels[thread])
            for place in (direct, world.channel, thread):
                await server.say(ann, place, f"{ME} before")
                await answered(server, place)
            server.gateway.open = False
            await server.gateway.drop(forget=True)
            for place in (direct, world.channel, thread, silent):
                for number in range(2):
                    await server.say(ann, place, f"{ME} missed {number}", quietly=True)
            server.faults = [Fault("GET", f"/channels/{direct}/messages", 503, times=2)]
            server.gateway.open = True
            await server.connected()
            await server.say(ann, direct, "after")

            missed = ["re: before", "re: missed 0", "re: missed 1"]
            assert await answered(server, direct, 4) == [*missed, "re: after"]
            assert await answered(server, world.channel, 3) == missed
            assert await answered(server, thread, 3) == missed
            assert await answered(server, silent, 2) == missed[1:]
            assert len(texts(spine)) == 12

    asyncio.run(whole())


def test_looking_back_leaves_out_what_is_nobodys_business() -> None:
    """Of the past, too, only what was for the bot is answered; an hour-old picture or a dry spell is not told of."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            world = server.world
            ann = world.person("ann")
            async with adapter(server, spine):
                await reply_to(server, ann, "before")
            for text in ("to all", ME, f"{ME} to the bot"):
                await server.say(ann, world.channel, text, quietly=True)
            await server.say(world.person("robot", bot=True), world.channel, f"{ME} beep", quietly=True)
            async with adapter(server, spine):
                assert await answered(server, world.channel, 2) == ["re: before", "re: to the bot"]

    asyncio.run(whole())


def test_a_restart_answers_what_came_meanwhile_and_sends_what_was_not_sent() -> None:
    """After a crash: a reply that was being sent arrives once, one that waited arrives, the gap is answered."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            world = server.world
            ann, bea = world.person("ann"), world.person("bea")
            hers, other = world.direct(ann), world.direct(bea)
            async with adapter(server, spine, drain_s=0.01):
                server.faults = [Fault("POST", f"{hers}/messages", 503, times=1000, done=True)]
                await server.say(ann, hers, "sent, but who knows")
                await answered(server, hers)
            async with adapter(server, spine, drain_s=0.01) as run:
                run.task.cancel()  # It dies before it is there.
            await server.say(bea, other, "first words", quietly=True)
            await server.say(ann, hers, "meanwhile", quietly=True)
            server.faults = []
            async with adapter(server, spine):
                await server.say(ann, hers, "after")

                assert await answered(server, hers, 3) == ["re: sent, but who knows", "re: meanwhile", "re: after"]
                await server.until(lambda: not spine.kept)
                assert server.world.answers(hers) == ["re: sent, but who knows", "re: meanwhile", "re: after"]

    asyncio.run(whole())


def test_an_old_reply_is_looked_for_before_it_is_sent_again() -> None:
    """When Discord has forgotten the nonce, the channel's history tells whether the reply is there."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server:
            channel = server.world.direct(ann := server.world.person("ann"))
            async with adapter(server, spine):
                said = await server.say(ann, channel, "hello")
                await server.until(lambda: said["id"] in spine.ids)
            message = spine.messages[0]
            spine._done.clear()
            await spine.accept(message)
            spine._set(message, "sending", reply=Reply("re: hello", "m", "echo", id=1))
            server.world.nonces.clear()
            async with adapter(server, spine, pace=FAST.__class__(stale=0.0, guilds=0.02)):
                await server.until(lambda: not spine.kept)

            assert server.world.answers(channel) == ["re: hello"]
            assert spine.ids[said["id"]] == (next(m for m in server.world.messages[channel] if m != said["id"]),)

    asyncio.run(whole())


def test_stopping_sends_what_is_being_answered_and_takes_nothing_new() -> None:
    """On SIGTERM the reply in the making arrives, what is written from then on waits, and Discord is left with 1000."""
    release = asyncio.Event()

    async def slow(message: Message) -> Reply:
        await release.wait()
        return Reply(f"re: {message.text}", "m", "echo")

    async def whole() -> None:
        spine = MemorySpine(slow)
        async with DiscordServer() as server, adapter(server, spine) as run:
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "hello")
            await server.until(lambda: spine.messages)
            run.task.cancel()
            await asyncio.sleep(0.01)
            await server.say(ann, channel, "too late")
            await asyncio.sleep(0.05)
            release.set()
            await asyncio.wait([run.task])

            assert server.world.answers(channel) == ["re: hello"]
            assert texts(spine) == ["hello"]
            await server.until(lambda: server.gateway.closes)
            assert server.gateway.closes == [1000]

    asyncio.run(whole())


@pytest.mark.parametrize("what", ["API", "gateway"])
def test_an_outage_at_the_start_is_for_another_try(what: str) -> None:
    """A first connection that fails ends the run with an ordinary error, and a new run talks."""

    async def whole() -> None:
        async with DiscordServer() as server:
            server.gateway.open = False
            if what == "API":
                server.faults = [Fault("GET", "users/@me", 503)]
            async with adapter(server, MemorySpine(), connects=False) as run:
                outcome = await run.outcome()

            reached = (
                "Discord cannot be reached (status 503)" if what == "API" else "Discord's gateway cannot be reached"
            )
            assert str(outcome).startswith(f"{reached}: check the network")
            assert not isinstance(outcome, UsageError)
            server.gateway.open = True
            async with adapter(server, MemorySpine()):
                channel = server.world.direct(ann := server.world.person("ann"))
                await server.say(ann, channel, "hello")
                assert await answered(server, channel) == ["re: hello"]

    asyncio.run(whole())


def test_no_network_is_told_in_one_line() -> None:
    """Where nothing listens, the error names the cause and the way out, and no address; another try may help."""

    async def whole() -> BaseException | None:
        async with DiscordServer() as server:
            pass
        async with adapter(server, MemorySpine(), connects=False) as run:
            return await run.outcome()

    outcome = asyncio.run(whole())

    assert isinstance(outcome, ChatbotError)
    assert not isinstance(outcome, UsageError)
    assert str(outcome).startswith(
        "Discord cannot be reached (ConnectionRefusedError): check the network, and DISCORD_"
    )


@pytest.mark.parametrize("token", ["wrong", "", "two words"])
def test_a_bad_token_is_named_and_never_shown(token: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a token that Discord accepts, a run says which variable to set, and does not show what is in it."""

    async def whole() -> BaseException | None:
        async with DiscordServer() as server, adapter(server, MemorySpine(), token=token, connects=False) as run:
            return await run.outcome()

    outcome = asyncio.run(whole())

    assert isinstance(outcome, UsageError)
    assert "DISCORD_BOT_TOKEN" in str(outcome)
    assert not token or token not in f"{outcome} {caplog.text}"


def test_a_token_that_is_reset_ends_the_run() -> None:
    """When Discord no longer accepts the token, nothing more is tried with it, and the reply waits for a new one."""

    async def whole() -> None:
        spine = MemorySpine()
        async with DiscordServer() as server, adapter(server, spine, drain_s=0.01) as run:
            server.faults = [Fault("POST", "/messages$", 401, times=1000)]
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "hello")

            assert isinstance(await run.outcome(), UsageError)
            assert len(server.posts()) == 1
            assert [found.state for found in await spine.waiting("discord")] == ["sending"]

    asyncio.run(whole())


@pytest.mark.parametrize("shards", [1, 2])
def test_a_missing_intent_is_explained_once(shards: int) -> None:
    """Close code 4014 ends the run with the cure; without the setting the intent is not asked for at all."""

    async def whole() -> None:
        async with DiscordServer(shards=shards) as server:
            server.world.flags = 0
            async with adapter(server, MemorySpine(), {"message_content": True}, connects=False) as run:
                outcome = await run.outcome()
            assert isinstance(outcome, UsageError)
            assert "message_content to false" in str(outcome)
            assert server.gateway.counted["IDENTIFY"] <= shards
            async with adapter(server, MemorySpine()):
                assert not server.gateway.identified[-1]["intents"] & CONTENT_INTENT

    asyncio.run(whole())


def test_sessions_that_end_at_once_are_not_begun_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discord resets the token of a bot that begins 1000 sessions a day: after some an hour there is a pause."""
    monkeypatch.setattr(discord_client, "_MANY_SESSIONS", 3)

    async def whole() -> None:
        async with DiscordServer() as server, adapter(server, MemorySpine()) as run:
            while not run.task.done():
                await server.gateway.send_op(9, False)
                await asyncio.sleep(0.02)

            assert isinstance(run.task.exception(), ChatbotError)
            assert server.gateway.counted["IDENTIFY"] == 3

    asyncio.run(whole())


def test_no_session_is_begun_when_none_is_left() -> None:
    """With its sessions for the day used up, the bot waits until Discord gives new ones."""

    async def whole() -> None:
        async with DiscordServer() as server:
            server.remaining = 0
            begun = asyncio.get_running_loop().time()
            async with adapter(server, MemorySpine()):
                assert asyncio.get_running_loop().time() - begun >= 0.1  # what the server names

    asyncio.run(whole())


def test_as_many_shards_as_discord_advises() -> None:
    """With two shards advised there are two connections, and messages of both are answered."""

    async def whole() -> None:
        async with DiscordServer(shards=2) as server, adapter(server, MemorySpine()):
            channel = server.world.direct(ann := server.world.person("ann"))
            await server.say(ann, channel, "hello")
            await server.say(ann, server.world.channel, f"{ME} hello")

            assert await answered(server, channel) == ["re: hello"]
            assert await answered(server, server.world.channel) == ["re: hello"]
            assert [data["shard"] for data in server.gateway.identified] == [[0, 2], [1, 2]]

    asyncio.run(whole())


@pytest.mark.parametrize("packing", ["zlib-stream", "zstd-stream", "none"])
def test_every_compression_is_understood(packing: str) -> None:
    """Events are asked for in zlib, and taken in whatever a server packs them, or does not."""

    async def whole() -> None:
        async with DiscordServer() as server:
            server.gateway.packing = packing
            async with adapter(server, MemorySpine()):
                channel = server.world.direct(ann := server.world.person("ann"))
                await server.say(ann, channel, "hello")

                assert await answered(server, channel) == ["re: hello"]
                assert server.gateway.asked == ["zlib-stream"]

    asyncio.run(whole())


def test_the_heart_beats() -> None:
    """Heartbeats go out at the pace that HELLO names, answers or not."""

    async def whole() -> None:
        async with DiscordServer(heartbeat_s=0.05) as server, adapter(server, MemorySpine()):
            await server.until(lambda: server.gateway.counted["HEARTBEAT"] >= 4)

    asyncio.run(whole())
