"""Telegram when things go wrong: what is kept, sent again, or not; the limits; the end and the next start."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from fakes import MemorySpine
from telegram_people import person
from telegram_server import TOKEN, Fault, TelegramServer
from telegram_stage import AT_ONCE, QUICK, running, scene

from adapters.telegram import Pace
from adapters.telegram_pacing import Pacer
from chatbot.errors import DatabaseError
from chatbot.messages import Message, Reply

__all__ = ["scene"]
Play = Callable[..., None]
ANN = person(501)
REAL = Pace()


def test_telegrams_limits_are_kept() -> None:
    """One message a second in a chat, 20 a minute in a group, fewer than 30 a second overall."""
    assert (REAL.chat_s, REAL.group_burst, REAL.group_window_s) == (1.0, 20, 60.0)
    assert 1 / REAL.overall_s < 30


def starts(server: TelegramServer, chat: int) -> list[float]:
    """When the messages to a chat came in, in seconds."""
    return [call.at for call in server.made("sendMessage") if call.chat == chat]


def held(release: asyncio.Event) -> MemorySpine:
    """A spine that answers with the message's own text, once it may."""

    async def answer(message: Message) -> Reply:
        await release.wait()
        return Reply(message.text, "m", "echo")

    return MemorySpine(answer)


def gaps(times: Sequence[float]) -> list[float]:
    """From each to the next."""
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_chat_gets_its_messages_at_its_pace_and_others_do_not_wait(scene: Play) -> None:
    """Messages to one chat keep their distance; one to another chat goes out meanwhile."""

    async def act(server: TelegramServer) -> None:
        ann, bob = server.chat(501), server.chat(502)
        async with running(server, MemorySpine(), pace=Pace(chat_s=0.3, overall_s=0.0)):
            for text in ("1", "2", "3"):
                await server.say(ann, text)
            await server.say(bob, "b")
            texts = await server.until_sent(4)
        assert min(gaps(starts(server, 501))) >= 0.3
        assert texts.index("re: b") < texts.index("re: 3")

    scene(act)


def test_topics_of_a_chat_share_its_pace(scene: Play) -> None:
    """Two topics are two conversations, but one chat, even while a call takes longer than its share of time."""

    async def act(server: TelegramServer) -> None:
        forum = server.chat(-88, "supergroup", is_forum=True, topics={5, 6})
        server.faults["sendMessage"].append(Fault("slow", 0.5, after=True))
        async with running(server, MemorySpine(), pace=Pace(chat_s=0.3, overall_s=0.0)):
            for thread in (5, 6):
                await server.say(forum, "/stats", ANN, thread=thread)
            await server.until_sent(2)
        assert min(gaps(starts(server, -88))) >= 0.8

    scene(act)


def test_a_group_gets_no_more_than_its_share(scene: Play) -> None:
    """When a group has had its messages of a minute, the next waits until the first is a minute old."""

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        pace = Pace(chat_s=0.0, group_burst=3, group_window_s=0.6, overall_s=0.0)
        async with running(server, MemorySpine(), pace=pace):
            for _ in range(7):
                await server.say(group, "/stats", ANN)
            await server.until_sent(7)
        times = starts(server, -77)
        assert all(later - earlier >= 0.6 for earlier, later in zip(times, times[3:], strict=False))

    scene(act)


def test_a_group_gets_its_share_without_waiting() -> None:
    """The limit of a minute does not spread messages over it: with a clock that stands still, three go, no fourth."""
    given: list[int] = []

    async def act() -> None:
        pacer = Pacer(Pace(chat_s=0.0, group_burst=3, group_window_s=0.6, overall_s=0.0), lambda: 1.0)

        async def one(number: int) -> None:
            await pacer.turn("-77")
            pacer.over("-77")
            given.append(number)

        calls = asyncio.gather(*(one(number) for number in range(4)))
        await asyncio.sleep(0.05)
        calls.cancel()

    asyncio.run(act())
    assert given == [0, 1, 2]


def test_all_chats_together_keep_the_pace_of_the_bot() -> None:
    """However many chats wait, messages go out one after another, and the sign of typing is left out meanwhile."""
    given: list[float] = []

    async def act() -> None:
        pacer = Pacer(Pace(chat_s=0.0, overall_s=0.01))
        begun = asyncio.get_running_loop().time()

        async def one(chat: str) -> None:
            await pacer.turn(chat)
            given.append(asyncio.get_running_loop().time() - begun)

        waiting = [asyncio.create_task(one(str(number))) for number in range(10)]
        await asyncio.sleep(0)
        assert pacer.crowded
        await asyncio.gather(*waiting)

    asyncio.run(act())
    assert all(at >= number * 0.01 for number, at in enumerate(sorted(given)))


def test_retry_after_is_obeyed_for_that_chat_alone(scene: Play) -> None:
    """Nothing goes to the chat before its time, the text goes then, once; other chats hear nothing of it."""

    async def act(server: TelegramServer) -> None:
        ann, bob = server.chat(501), server.chat(502)
        server.faults["sendMessage"].extend([Fault("flood", 2, chat=501), Fault("flood", 1, chat=501)])
        async with running(server, MemorySpine()):
            await server.say(ann, "a1")
            await server.say(ann, "a2")
            await server.say(bob, "b")
            assert await server.until_sent(3) == ["re: b", "re: a1", "re: a2"]
        first, second, third, _ = starts(server, 501)
        assert 2.0 <= second - first < 5.0
        assert 1.0 <= third - second < 4.0

    scene(act)


def test_a_flood_of_typing_costs_no_text(scene: Play) -> None:
    """Told to type less, the bot leaves typing out in that chat, and the reply comes as soon as it is there."""

    async def slowly(message: Message) -> Reply:
        await asyncio.sleep(0.3)
        return Reply("done", "m", "echo")

    async def act(server: TelegramServer) -> None:
        server.faults["sendChatAction"].append(Fault("flood", 30))
        async with running(server, MemorySpine(slowly)):
            await server.say(server.chat(501), "hi")
            await server.until_sent(1)
        assert len(server.made("sendChatAction")) == 1

    scene(act)


@pytest.mark.parametrize("fault", [Fault("status", 502), Fault("status", 500), Fault("status", 503)])
def test_what_was_not_carried_out_is_sent_again(scene: Play, fault: Fault) -> None:
    """After an answer of the 5xx kind the message comes, once, after a pause."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        server.faults["sendMessage"].append(fault)
        async with running(server, spine):
            await server.say(server.chat(501), "hi")
            await server.until(lambda: spine.ids)
        assert [call.done for call in server.made("sendMessage")] == [False, True]

    scene(act)
    assert [state for _, state in spine.states] == ["received", "pending", "sending", "pending", "sending", "sent"]


AMBIGUOUS = {
    "cut before": Fault("drop"),
    "cut after": Fault("drop", after=True),
    "late": Fault("slow", 5, after=True),
    "no proper answer": Fault("garbage", after=True),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_may_have_arrived_is_not_sent_again(scene: Play, case: str) -> None:
    """At most once: the message ends as unknown, and the next one is answered."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        server.faults["sendMessage"].append(AMBIGUOUS[case])
        timing = QUICK.__class__(poll_s=2.0, answer_s=0.4, first_pause_s=0.05)
        async with running(server, spine, timing=timing):
            await server.say(server.chat(501), "one")
            await server.say(server.chat(501), "two")
            await server.until(lambda: len(spine.ids) == 2)
        texts = [call.params["text"] for call in server.made("sendMessage")]
        assert texts == ["re: one", "re: two"]

    scene(act)
    assert ("1", "unknown") in spine.states
    assert ("2", "sent") in spine.states


REFUSALS = [
    (403, "Forbidden: bot was blocked by the user"),
    (403, "Forbidden: bot was kicked from the supergroup chat"),
    (403, "Forbidden: user is deactivated"),
    (400, "Bad Request: chat not found"),
    (400, "Bad Request: not enough rights to send text messages to the chat"),
    (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_chat_that_refuses_us_ends_the_message(scene: Play, refusal: tuple[int, str]) -> None:
    """It is failed without another try, and the next chat is answered."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        server.chat(501).refusal = refusal
        async with running(server, spine):
            await server.say(server.chat(501), "hi")
            await server.say(server.chat(502), "hi", person(502))
            await server.until(lambda: ("1", "failed") in spine.states and ("1", "sent") in spine.states)
        assert len(starts(server, 501)) == 1

    scene(act)


def test_a_server_that_goes_away_is_waited_for(scene: Play) -> None:
    """Polling and a reply that waits go on when the server is there again, and each message is answered once."""
    release = asyncio.Event()

    async def act(server: TelegramServer) -> None:
        spine = held(release)
        async with running(server, spine):
            await server.say(server.chat(501), "before")
            await server.until(lambda: spine.messages)
            await server.stop()
            release.set()
            await asyncio.sleep(0.2)
            await server.start()
            await server.say(server.chat(501), "after")
            assert await server.until_sent(2) == ["before", "after"]

    scene(act)


def test_a_server_that_is_down_at_the_start_is_waited_for(scene: Play) -> None:
    """The bot does not give up before Telegram has answered for the first time."""

    async def act(server: TelegramServer) -> None:
        server.faults["getMe"].append(Fault("status", 502))
        async with running(server, MemorySpine()):
            await server.say(server.chat(501), "hi")
            assert await server.until_sent(1) == ["re: hi"]

    scene(act)


@pytest.mark.parametrize("fault", [Fault("drop"), Fault("status", 502), Fault("garbage"), Fault("flood", 1)])
def test_a_poll_that_fails_loses_nothing(scene: Play, fault: Fault) -> None:
    """What waits comes with the next poll, once."""

    async def act(server: TelegramServer) -> None:
        server.faults["getUpdates"].append(fault)
        await server.say(server.chat(501), "hi")
        async with running(server, MemorySpine()):
            assert await server.until_sent(1) == ["re: hi"]
            await server.say(server.chat(501), "ho")
            assert await server.until_sent(2) == ["re: hi", "re: ho"]

    scene(act)


class Forgetful(MemorySpine):
    """A spine whose store fails at a text for the first time."""

    async def accept(self, message: Message) -> bool:
        """DatabaseError once for "fail"."""
        if message.text == "fail" and "failed" not in vars(self):
            self.failed = True
            raise DatabaseError("the disk is full: make room")
        return await super().accept(message)


def test_nothing_is_confirmed_before_it_is_kept(scene: Play) -> None:
    """When a message cannot be kept the session ends with the reason; the next one gets it again, and none twice."""
    spine = Forgetful()

    async def act(server: TelegramServer) -> None:
        for text in ("one", "fail", "three"):
            await server.say(server.chat(501), text)
        with pytest.raises(DatabaseError, match="disk is full"):
            async with running(server, spine) as task:
                await asyncio.wait([task], timeout=5)
        assert len(server.queue) == 3
        async with running(server, spine):
            assert await server.until_sent(3) == ["re: one", "re: fail", "re: three"]
            await server.until(lambda: not server.queue)

    scene(act)


def test_what_came_while_the_bot_was_off_is_answered(scene: Play) -> None:
    """Nothing is dropped at a start; the updates asked for are named; and nothing is asked for that was confirmed."""

    async def act(server: TelegramServer) -> None:
        for number in range(5):
            await server.say(server.chat(501), str(number))
        async with running(server, MemorySpine()):
            assert await server.until_sent(5) == [f"re: {number}" for number in range(5)]
        assert server.queue == []
        polls = server.made("getUpdates")
        assert polls[0].params["allowed_updates"] == ["message", "edited_message", "callback_query"]
        assert all("drop_pending_updates" not in call.params for call in server.calls)

    scene(act)


def test_an_update_that_comes_again_is_no_second_message(scene: Play) -> None:
    """By its chat and number, whatever the update's own number: twice in a batch, later, or out of order."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        first = ann.add(ANN, text="one")
        second = ann.add(ANN, text="two")
        await server.push("message", second, 12)
        await server.push("message", first, 11)
        await server.push("message", second, 12)
        async with running(server, spine):
            await server.until_sent(2)
            await server.push("message", first, 13)
            await server.push("message", second, 14)
            await server.until(lambda: not server.queue)
            await server.say(ann, "three")
            assert await server.until_sent(3) == ["re: two", "re: one", "re: three"]

    scene(act)


def test_update_numbers_may_begin_anywhere_again(scene: Play) -> None:
    """After a quiet week they are chosen anew, and may be lower than before."""

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, MemorySpine()):
            await server.push("message", ann.add(ANN, text="high"), 900_000_000)
            await server.until_sent(1)
            await server.until(lambda: not server.queue)
            await server.push("message", ann.add(ANN, text="low"), 5)
            assert await server.until_sent(2) == ["re: high", "re: low"]
            await server.push("message", ann.add(ANN, text="lower"), 6)
            assert await server.until_sent(3) == ["re: high", "re: low", "re: lower"]

    scene(act)


def test_the_end_sees_through_what_has_begun(scene: Play) -> None:
    """Cancelled, the adapter takes nothing new, sends what is being answered, and confirms what it has."""
    release = asyncio.Event()

    async def act(server: TelegramServer) -> None:
        spine = held(release)
        async with running(server, spine) as task:
            await server.say(server.chat(501), "in flight")
            await server.until(lambda: spine.messages)
            task.cancel()
            await asyncio.sleep(0.1)
            await server.say(server.chat(501), "too late")
            release.set()
        assert [call.params["text"] for call in server.sent] == ["in flight"]
        assert [update["message"]["text"] for update in server.queue] == ["too late"]

    scene(act)


def test_what_the_end_could_not_see_through_is_for_the_next_start(scene: Play) -> None:
    """After the deadline a message stays with the spine, and the next session answers it first."""
    held = True

    async def answer(message: Message) -> Reply:
        while held:
            await asyncio.sleep(0.01)
        return Reply(message.text, "m", "echo")

    async def act(server: TelegramServer) -> None:
        nonlocal held
        spine = MemorySpine(answer)
        async with running(server, spine, drain=0.1):
            await server.say(server.chat(501), "long")
            await server.until(lambda: spine.messages)
        assert server.sent == []
        held = False
        async with running(server, spine):
            assert await server.until_sent(1) == ["long"]

    scene(act)


@pytest.mark.parametrize(("state", "shown"), [("pending", ["the reply"]), ("sending", [])])
def test_the_next_start_sends_what_waits_and_doubles_nothing(scene: Play, state: str, shown: list[str]) -> None:
    """A reply that was not on its way is sent, one that may have arrived is not."""

    async def act(server: TelegramServer) -> None:
        server.chat(501)
        spine = MemorySpine()
        message = Message("telegram", "501", "501", "hi", "1", datetime.now(UTC))
        await spine.accept(message)
        spine._set(message, state, reply=Reply("the reply", "m", "echo"))
        async with running(server, spine):
            await server.until(lambda: "1" in spine.ids)
        assert [call.params["text"] for call in server.sent] == shown

    scene(act)


def test_the_token_is_in_no_log(scene: Play, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the root logger shows, the token, texts and ids of people are in none of the lines."""
    caplog.set_level(logging.DEBUG)

    async def act(server: TelegramServer) -> None:
        for method in ("getMe", "getUpdates", "sendMessage"):
            server.faults[method].extend([Fault("status", 502), Fault("garbage")] if method != "getMe" else [])
        server.chat(7654321).refusal = (403, "Forbidden: bot was blocked by the user")
        async with running(server, MemorySpine()):
            for text in ("my secret words", "and more of these", "at last"):
                await server.say(server.chat(1234567), text)
                await server.say(server.chat(7654321), text)
            await server.push("message", {"my secret": 1234567})
            await server.until(lambda: len(starts(server, 1234567)) >= 4)

    scene(act)
    text = caplog.text
    assert "telegram" in text
    for hidden in (TOKEN, TOKEN.partition(":")[2], "secret", "1234567", "7654321"):
        assert hidden not in text


def test_the_pace_forgets_chats_that_are_quiet() -> None:
    """Ten thousand chats later, nothing is kept of those to which no limit applies any more."""

    async def act() -> int:
        clock = 0.0
        pacer = Pacer(AT_ONCE, lambda: clock)
        for number in range(10_002):
            await pacer.turn(str(number))
        clock = 1000.0
        await pacer.turn("1")
        return len(pacer._chats)

    assert asyncio.run(act()) == 1


def test_no_call_looks_for_what_is_not_installed(scene: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that tries to import something in each call finds it: looking in vain asks the disk every time."""
    looked_for: list[str] = []

    class Last:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            looked_for.append(name)

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine()):
            await server.say(server.chat(501), "one")
            await server.until_sent(1)
            monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Last()])
            await server.say(server.chat(501), "two")
            await server.until_sent(2)

    scene(act)
    assert looked_for == []
