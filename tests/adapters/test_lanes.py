"""Order, independence, retries, draining and what a new start does, on a spine and a platform in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import MemorySpine
from talking import said

from adapters.courtesy import text_only, too_fast
from adapters.lanes import Lanes, MaybeDeliveredError, NotDeliveredError, NotYetError, Part
from chatbot.errors import DatabaseError, UsageError
from chatbot.messages import Message, Reply


class Wire:
    """A platform that takes parts of at most 9 characters; `faults` are raised, one a call, before it takes any."""

    typing_s = 0.01

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.out: list[str] = []
        self.calls: list[tuple[float, Part]] = []
        self.signs: list[str] = []  # texts for which the sign was shown, to the end
        self.sign_s = 0.0  # how long showing it takes
        self.sign_fails = False
        self.closed: set[str] = set()  # chats into which nothing is let
        self.pause_after: int | None = None  # parts taken, after which nothing is let in anywhere
        self.opened = asyncio.Event()

    def parts(self, message: Message, reply: Reply) -> Sequence[str]:
        """The text in pieces."""
        return [reply.text[start : start + 9] for start in range(0, len(reply.text), 9)]

    async def turn(self, message: Message) -> None:
        """At once, but for a chat that is closed."""
        if message.chat in self.closed or len(self.out) == self.pause_after:
            await self.opened.wait()

    async def send(self, message: Message, reply: Reply, part: Part) -> str:
        """Take the part, its text being its id."""
        self.calls.append((asyncio.get_running_loop().time(), part))
        if self.faults:
            raise self.faults.pop(0)
        self.out.append(part.text)
        return part.text

    async def show_typing(self, message: Message) -> bool:
        """Keep what is being answered."""
        await asyncio.sleep(self.sign_s)
        self.signs.append(message.text)
        if self.sign_fails:
            raise ZeroDivisionError
        return True


def lanes(
    spine: MemorySpine, wire: Wire, *, resend: bool = False, drain_seconds: float = 5.0, merge_burst_s: float = 0.0
) -> Lanes:
    """Lanes of the platform "terminal", that of `said`."""
    return Lanes(
        spine, wire, "terminal", resend=lambda *_: resend, drain_seconds=drain_seconds, merge_burst_s=merge_burst_s
    )


def put_through(spine: MemorySpine, wire: Wire, *messages: Message, **more: Any) -> None:
    """Accept messages, put them in and drain."""

    async def session() -> None:
        async with lanes(spine, wire, **more) as open_lanes:
            for message in messages:
                if await spine.accept(message):
                    open_lanes.put(message)

    asyncio.run(session())


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without an hour of the platform's come soon."""
    monkeypatch.setattr("adapters.lanes._FIRST_PAUSE_S", 0.01)


def test_a_message_goes_through_its_states() -> None:
    """Received, pending, sending, sent, with the platform's id of the reply."""
    spine = MemorySpine()

    put_through(spine, Wire(), said("hi", 1))

    assert [state for _, state in spine.states] == ["received", "pending", "sending", "sent"]
    assert spine.ids == {"1": ("re: hi",)}


def test_a_chat_is_answered_in_order_and_chats_side_by_side() -> None:
    """Whatever each takes, one conversation's answers keep their order, and none waits for another's."""
    started: list[str] = []

    async def answer(message: Message) -> Reply:
        started.append(message.text)
        await asyncio.sleep(0.03 if message.message_id == "0" else 0)
        return Reply(message.text, "m", "echo")

    wire = Wire()

    put_through(MemorySpine(answer), wire, *(said(f"{chat}{n}", n, chat) for chat in ("a", "b") for n in range(4)))

    assert set(started[:2]) == {"a0", "b0"}
    assert [text for text in wire.out if text[0] == "a"] == ["a0", "a1", "a2", "a3"]
    assert [text for text in wire.out if text[0] == "b"] == ["b0", "b1", "b2", "b3"]


def test_a_stuck_chat_holds_up_nobody() -> None:
    """While the platform lets nothing into one chat, another one and a thread of the same are answered."""
    wire = Wire()
    wire.closed.add("stuck")
    spine = MemorySpine()

    async def session() -> None:
        async with lanes(spine, wire) as open_lanes:
            for message in (said("never", 1, "stuck"), said("hi", 1, "free")):
                await spine.accept(message)
                open_lanes.put(message)
            while not wire.out:
                await asyncio.sleep(0)
            wire.opened.set()

    asyncio.run(session())

    assert wire.out == ["re: hi", "re: never"]


def test_typing_is_shown_while_answering_only() -> None:
    """The sign comes again and again while the spine works, and no more when the reply is there."""
    wire = Wire()

    async def answer(message: Message) -> Reply:
        while wire.signs.count(message.text) < 3:
            await asyncio.sleep(0)
        return Reply("x", "m", "echo")

    put_through(MemorySpine(answer), wire, said("hi", 1), said("ho", 2))

    assert wire.signs == ["hi"] * 3 + ["ho"] * 3


def test_a_sign_that_is_refused_is_not_tried_again_and_costs_nothing() -> None:
    """The message is answered as if there were no sign."""
    wire = Wire()
    wire.sign_fails = True

    async def answer(message: Message) -> Reply:
        await asyncio.sleep(5 * wire.typing_s)
        return Reply("x", "m", "echo")

    put_through(MemorySpine(answer), wire, said("hi", 1))

    assert (wire.signs, wire.out) == (["hi"], ["x"])


def test_a_sign_under_way_is_not_broken_off() -> None:
    """Neither by the reply nor by the end: a connection that was just being made would be left open."""
    wire = Wire()
    wire.sign_s = 0.05

    async def answer(message: Message) -> Reply:
        await asyncio.sleep(0)
        return Reply("x", "m", "echo")

    put_through(MemorySpine(answer), wire, said("hi", 1))

    assert (wire.out, wire.signs) == (["x"], ["hi"])


def test_long_replies_go_out_in_parts() -> None:
    """Part after part, each known to be out before the next is begun."""
    wire, spine = Wire(), MemorySpine()

    put_through(spine, wire, said("0123456789012345", 1))

    assert wire.out == ["re: 01234", "567890123", "45"]
    assert [(part.number, part.last) for _, part in wire.calls] == [(0, False), (1, False), (2, True)]
    assert [state for _, state in spine.states][2:] == ["sending", "pending"] * 2 + ["sending", "sent"]
    assert spine.ids["1"] == ("re: 01234", "567890123", "45")


def test_what_did_not_arrive_is_sent_again_when_the_platform_says() -> None:
    """Never sooner than asked, pending meanwhile, so that a crash while waiting loses nothing."""
    wire, spine = Wire(NotYetError(0.05), NotYetError()), MemorySpine()

    put_through(spine, wire, said("hi", 1))

    first, second, _ = (at for at, _ in wire.calls)
    assert second - first >= 0.05
    assert wire.out == ["re: hi"]
    assert [state for _, state in spine.states][2:] == ["sending", "pending", "sending", "pending", "sending", "sent"]


@pytest.mark.parametrize(
    ("fault", "state"),
    [(NotDeliveredError(), "failed"), (MaybeDeliveredError(), "unknown"), (ZeroDivisionError("words"), "unknown")],
)
def test_what_cannot_be_sent_ends_only_itself(fault: Exception, state: str, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal, a lost outcome or a mistake of ours is noted, logged without content, and the next is answered."""
    wire, spine = Wire(fault), MemorySpine()

    put_through(spine, wire, said("private", 1), said("next", 2))

    assert ("1", state) in spine.states
    assert wire.out == ["re: next"]
    assert len(caplog.records) == 1
    assert "private" not in caplog.text
    assert "words" not in caplog.text


def test_a_lost_outcome_is_sent_again_where_that_is_safe() -> None:
    """Where the platform knows a part that it has, the call is made until its outcome is known."""
    wire, spine = Wire(MaybeDeliveredError()), MemorySpine()

    put_through(spine, wire, said("hi", 1), resend=True)

    assert wire.out == ["re: hi"]
    assert spine.states[-1] == ("1", "sent")


@pytest.mark.parametrize(
    ("problem", "told"),
    [(UsageError("temperature is 50"), "temperature is 50"), (ZeroDivisionError("private"), "Zero")],
)
def test_no_answer_ends_only_itself(problem: Exception, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """The operator is told an error in its words, a mistake by class and place; the next message is answered."""

    async def answer(message: Message) -> Reply:
        if message.text == "fail":
            raise problem
        return Reply("fine", "m", "echo")

    wire, spine = Wire(), MemorySpine(answer)

    put_through(spine, wire, said("fail", 1), said("hi", 2))

    assert ("1", "failed") in spine.states
    assert wire.out == ["fine"]
    assert told in caplog.text
    assert "private" not in caplog.text


def test_a_store_that_cannot_be_used_now_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk loses nothing that was accepted: the same message is tried until it is answered, in its order."""
    problems = [DatabaseError("there is no space left"), DatabaseError("there is no space left")]

    async def answer(message: Message) -> Reply:
        if problems:
            raise problems.pop()
        return Reply(message.text, "m", "echo")

    wire = Wire()

    put_through(MemorySpine(answer), wire, said("one", 1), said("two", 2))

    assert wire.out == ["one", "two"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


def stop_midway(spine: MemorySpine, wire: Wire, message: Message, until: Callable[[], bool]) -> None:
    """Put one message in and close, without time to drain, when `until` holds."""

    async def session() -> None:
        async with lanes(spine, wire, drain_seconds=0) as open_lanes:
            await spine.accept(message)
            open_lanes.put(message)
            while not until():
                await asyncio.sleep(0)

    asyncio.run(session())


async def forever(message: Message) -> Reply:
    """No reply."""
    await asyncio.sleep(3600)
    raise AssertionError


def test_what_was_not_answered_is_answered_at_the_next_start() -> None:
    """A message that was being answered when time ran out is taken up, before anything new."""
    spine, wire = MemorySpine(forever), Wire()
    stop_midway(spine, wire, said("first", 1), lambda: bool(spine.messages))
    spine._answering = None

    put_through(spine, wire, said("next", 2))

    assert wire.out == ["re: first", "re: next"]


def test_what_was_pending_is_sent_at_the_next_start() -> None:
    """A reply that waited for the platform's leave is sent, and not made again."""
    spine, wire = MemorySpine(), Wire(NotYetError(3600))
    stop_midway(spine, wire, said("hi", 1), lambda: ("1", "sending") in spine.states and not wire.faults)

    put_through(spine, wire)

    assert wire.out == ["re: hi"]
    assert len(spine.messages) == 1


def test_only_the_parts_that_are_not_out_are_sent_at_the_next_start() -> None:
    """A reply that was cut off between two parts goes on with the next."""
    spine, wire = MemorySpine(), Wire()
    wire.pause_after = 1
    stop_midway(spine, wire, said("0123456789", 1), lambda: wire.out != [] and spine.states[-1] == ("1", "pending"))
    wire.pause_after = None

    put_through(spine, wire)

    assert wire.out == ["re: 01234", "56789"]
    assert spine.ids["1"] == ("re: 01234", "56789")


@pytest.mark.parametrize(("resend", "out", "state"), [(False, [], "unknown"), (True, ["re: hi"], "sent")])
def test_what_may_be_out_is_sent_again_only_where_that_is_safe(resend: bool, out: list[str], state: str) -> None:
    """A call that was cut off in the middle is not made again on a platform that would show the reply twice."""
    spine, wire = MemorySpine(), Wire()

    async def cut_off() -> None:
        message = said("hi", 1)
        await spine.accept(message)
        await spine.answer(message)
        await spine.sending(message)

    asyncio.run(cut_off())

    put_through(spine, wire, resend=resend)

    assert wire.out == out
    assert spine.states[-1] == ("1", state)


def test_closing_sees_through_what_was_put_in() -> None:
    """All that was accepted is answered and sent before closing returns, if there is time."""

    async def answer(message: Message) -> Reply:
        await asyncio.sleep(0.005)
        return Reply(message.text, "m", "echo")

    wire = Wire()

    put_through(MemorySpine(answer), wire, *(said(str(n), n) for n in range(5)))

    assert wire.out == ["0", "1", "2", "3", "4"]


def test_nothing_is_begun_after_closing() -> None:
    """What comes too late is left to the next start."""
    spine, wire = MemorySpine(), Wire()

    async def session() -> None:
        async with lanes(spine, wire) as open_lanes:
            pass
        await spine.accept(said("late", 1))
        open_lanes.put(said("late", 1))
        await asyncio.sleep(0)

    asyncio.run(session())

    assert wire.out == []
    assert [found.message.text for found in asyncio.run(spine.waiting("terminal"))] == ["late"]


def test_a_line_of_the_adapters_own_is_not_kept() -> None:
    """It comes in its turn, is no state of any message, and is not made by the spine."""
    spine, wire = MemorySpine(), Wire()

    async def session() -> None:
        async with lanes(spine, wire) as open_lanes:
            await spine.accept(said("hi", 1))
            open_lanes.put(said("hi", 1))
            open_lanes.say(said("x", 2), "Slowly, please.")

    asyncio.run(session())

    assert wire.out == ["re: hi", "Slowly, p", "lease."]
    assert {number for number, _ in spine.states} == {"1"}


def test_courtesies_are_in_the_persons_language() -> None:
    """English, and Chinese for who writes it or has set it."""
    assert "wait" in too_fast("hello")
    assert "稍等" in too_fast("你好")
    assert "words" in text_only("de")
    assert "words" in text_only(None)
    assert "文字" in text_only("zh-hans")


def test_a_burst_is_answered_once_where_that_is_wanted() -> None:
    """What one person writes in one go gets one answer, to the last of it; commands and other people's words do not."""
    wire, spine = Wire(), MemorySpine()
    ann, bob = {"chat": "group", "sender": "ann"}, {"chat": "group", "sender": "bob"}

    put_through(
        spine,
        wire,
        *(said(text, number, **ann) for number, text in enumerate(("one", "two", "three"))),
        said("/help", 3, **ann),
        said("x", 4, **bob),
        said("y", 5, **ann),
        merge_burst_s=0.02,
    )

    assert wire.out == ["re: three", "re: /help", "re: x", "re: y"]
    assert {state for number, state in spine.states if number in {"0", "1"}} == {"received", "sent"}
    assert not spine.kept


def test_a_burst_ends_with_a_pause_and_takes_in_what_comes_meanwhile() -> None:
    """A message that follows soon goes on from the one before it, and one that comes later is answered by itself."""
    wire, spine = Wire(), MemorySpine()

    async def session() -> None:
        async with lanes(spine, wire, merge_burst_s=0.5) as open_lanes:
            for number, text in enumerate(("one", "two", "three")):
                await spine.accept(said(text, number))
                open_lanes.put(said(text, number))
                await asyncio.sleep(0.01)
                while text == "two" and not wire.out:
                    await asyncio.sleep(0.01)

    asyncio.run(session())

    assert wire.out == ["re: two", "re: three"]


def test_a_burst_that_fails_leaves_nothing_open() -> None:
    """Where there is no answer, all of it has failed; where the last of it was erased, the rest is answered."""

    async def answer(message: Message) -> Reply:
        if message.text == "fail":
            raise UsageError("no")
        return Reply(
            "" if message.text == "gone" else message.text,
            "m",
            "echo",
            detail="erased" if message.text == "gone" else None,
        )

    wire, spine = Wire(), MemorySpine(answer)
    texts = [("a", "one"), ("a", "fail"), ("b", "two"), ("b", "gone")]

    put_through(
        spine, wire, *(said(text, number, chat) for number, (chat, text) in enumerate(texts)), merge_burst_s=0.02
    )

    assert wire.out == ["two"]
    assert not spine.kept
    assert {state for number, state in spine.states if number in {"0", "1"}} == {"received", "failed"}
