"""What every adapter keeps to, whatever its platform: the shared contract, one case an adapter."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import CollectingAdapter, MemorySpine, ScriptedEngine, WordRules
from talking import KEY

from adapters import ADAPTERS
from adapters.admission import Admission
from adapters.base import Adapter, Answering, Spine, split_text
from adapters.terminal import TerminalAdapter
from chatbot.access import Access, Limits
from chatbot.conversation import Conversations
from chatbot.engine import EchoEngine
from chatbot.errors import ChatbotError, UsageError
from chatbot.guard import GuardedEngine
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore

MESSENGERS = {"telegram", "discord"}
LINES = ("hi", "你好吗", "🙂", "how are you?")


@dataclass(frozen=True)
class Session:
    """What came of a session: the texts people were shown, and the errors that were told to somebody."""

    shown: list[str]
    told: str


# Lets people on an adapter's platform say some lines, and runs it to the end.
Platform = Callable[[Sequence[str], Answering], Session]


@pytest.fixture(params=["terminal", "collecting", "telegram", "discord"])
def name(request: pytest.FixtureRequest) -> str:
    """The adapter under test. A new one gets a case here and a branch in `platform`."""
    return str(request.param)


@pytest.fixture
def platform(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Platform:
    """The platform of that adapter, offline."""
    if name == "telegram":
        return telegram_platform(monkeypatch, caplog)
    if name == "discord":
        return discord_platform(caplog)

    def terminal(lines: Sequence[str], spine: Answering) -> Session:
        file = tmp_path / "stdin"
        file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        with file.open() as stdin, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", stdin)
            asyncio.run(TerminalAdapter().run(spine))
        output = capsys.readouterr()
        return Session([line for line in output.out.splitlines() if line], output.err)

    def collecting(lines: Sequence[str], spine: Answering) -> Session:
        adapter = CollectingAdapter(lines)
        asyncio.run(adapter.run(spine))
        return Session(adapter.shown, "\n".join(adapter.told))

    return {"terminal": terminal, "collecting": collecting}[name]


def told(caplog: pytest.LogCaptureFixture) -> str:
    """What our own code has logged. The test servers' library complains, too, when a client hangs up."""
    ours = (record for record in caplog.records if record.name.startswith(("adapters", "chatbot")))
    return "\n".join(record.getMessage() for record in ours)


def telegram_platform(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Platform:
    """A private chat on Telegram, the same one in all sessions."""
    import telegram_server
    import telegram_stage

    server = telegram_server.TelegramServer()

    async def session(lines: Sequence[str], spine: Counting) -> Session:
        async with server:
            before = len(server.sent)
            monkeypatch.setenv("TELEGRAM_BOT_TOKEN", telegram_server.TOKEN)
            monkeypatch.setenv("TELEGRAM_API_URL", server.url)
            chat = server.chat(501)
            async with telegram_stage.running(server, cast(Spine, spine)):
                for line in lines:
                    await server.say(chat, line)
                await server.until(lambda: spine.accepted == len(lines))
            return Session([str(call.params["text"]) for call in server.sent[before:]], told(caplog))

    return lambda lines, spine: asyncio.run(session(lines, Counting(spine)))


def discord_platform(caplog: pytest.LogCaptureFixture) -> Platform:
    """Direct messages on Discord, in the same channel in all sessions."""
    import discord_server
    import discord_talk

    server = discord_server.DiscordServer()
    person = server.world.person("ann")
    channel = server.world.direct(person)

    async def session(lines: Sequence[str], spine: Counting) -> Session:
        async with server:
            before = len(server.world.answers(channel))
            async with discord_talk.adapter(server, cast(Spine, spine)):
                for line in lines:
                    await server.say(person, channel, line)
                await server.until(lambda: spine.accepted == len(lines))
            return Session(server.world.answers(channel)[before:], told(caplog))

    return lambda lines, spine: asyncio.run(session(lines, Counting(spine)))


class Counting:
    """A spine that counts the new messages it has accepted."""

    def __init__(self, spine: Answering) -> None:
        self.accepted = 0
        self._spine = spine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spine, name)

    async def accept(self, message: Message) -> bool:
        """As the spine does."""
        accepted = await cast(Spine, self._spine).accept(message)
        self.accepted += accepted
        return accepted


def recorder() -> MemorySpine:
    """A spine that keeps its messages and answers all but "fail"."""

    async def answer(message: Message) -> Reply:
        if message.text == "fail":
            raise UsageError("temperature is 50")
        return Reply(f"re: {message.text}", "m", "echo")

    return MemorySpine(answer)


def test_every_text_is_answered_in_order(platform: Platform) -> None:
    """Each text reaches the spine unchanged and once, and each reply is shown, in the order of the texts."""
    spine = recorder()

    session = platform(LINES, spine)

    assert [message.text for message in spine.messages] == list(LINES)
    assert session == Session([f"re: {line}" for line in LINES], "")


def test_messages_say_where_they_come_from(platform: Platform, name: str) -> None:
    """A message carries the adapter's name, a chat, a sender, an aware time and an id of its own, across sessions."""
    spine = recorder()

    platform(LINES, spine)
    platform(LINES, spine)

    assert {message.platform for message in spine.messages} == {name}
    assert all(message.chat and message.sender and message.sent_at.tzinfo for message in spine.messages)
    assert len({message.message_id for message in spine.messages}) == 2 * len(LINES)


def test_an_error_is_told_and_ends_nothing(platform: Platform) -> None:
    """A ChatbotError from the spine is told in its own words, and the next text is answered."""
    session = platform(("fail", "hi"), recorder())

    assert session.shown == ["re: hi"]
    assert "temperature is 50" in session.told


def test_any_other_error_is_not_hidden(platform: Platform, name: str) -> None:
    """A mistake of ours comes out of `run` as it is; with a messenger it is logged, so that others are answered."""

    async def broken(message: Message) -> Reply:
        raise ZeroDivisionError

    if name in MESSENGERS:
        assert "ZeroDivisionError" in platform(("hi",), MemorySpine(broken)).told
    else:
        with pytest.raises(ZeroDivisionError):
            platform(("hi",), MemorySpine(broken))


@pytest.mark.parametrize("name", ["terminal", "collecting"])
def test_cancelling_ends_the_session(platform: Platform) -> None:
    """A task that runs an adapter can be cancelled while a reply is awaited; messengers drain (test_lanes)."""

    async def cancelled(message: Message) -> Reply:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        platform(("hi", "there"), MemorySpine(cancelled))


def test_the_same_words_leave_the_same_records(platform: Platform, name: str) -> None:
    """Through the real spine, what is stored of a talk differs by platform in nothing but the platform."""
    store = ConversationStore("sqlite://", KEY)

    senders = set()

    class Noting(Conversations):
        async def answer(self, message: Message, before: Sequence[Message] = ()) -> Reply:
            senders.add(message.sender)
            return await super().answer(message, before)

    platform(("hi", "/good", "an alarm", "bye"), Noting(store, GuardedEngine(EchoEngine(), WordRules())))
    stats = store.stats()
    [sender] = senders
    kept = {(record.kind, record.text) for record in store.my_data(name, sender)}
    store.close()

    assert (stats.chats, stats.messages) == ({name: 1}, {name: 3})
    assert kept == {
        *(("message", text) for text in ("hi", "an alarm", "bye")),
        *(("reply", text) for text in ("hi", "help is near", "bye")),
        ("rating", "+1"),
    }


def test_adapters_are_found_by_name() -> None:
    """Each entry of ADAPTERS names an adapter whose messages carry that name."""
    for name, place in ADAPTERS.items():
        module, _, factory = place.partition(":")
        arguments: tuple[Any, ...] = () if name == "terminal" else ({}, Admission(Access(), Limits()), 1.0)
        adapter: Adapter = getattr(importlib.import_module(module), factory)(*arguments)

        assert adapter.name == name


def test_double_and_engine_fit_their_protocols() -> None:
    """The test doubles are second implementations of what they stand for, and the base error ends no session."""
    adapter: Adapter = CollectingAdapter(["fail"])

    async def answer(message: Message) -> Reply:
        return await ScriptedEngine(ChatbotError("no")).reply([], message.text)

    asyncio.run(adapter.run(MemorySpine(answer)))


def utf16(text: str) -> int:
    """The length of a text in UTF-16 code units, as some platforms count."""
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("", 7, []),
        (" \n ", 7, []),
        ("short", 7, ["short"]),
        ("seven c", 7, ["seven c"]),
        ("one two three", 7, ["one two", "three"]),
        ("one\n\ntwo three", 11, ["one\n\ntwo", "three"]),
        ("a b c d\n\ne f g", 11, ["a b c d", "e f g"]),
        ("a b c d\ne f g", 11, ["a b c d", "e f g"]),
        ("It is. So be it now.", 11, ["It is.", "So be it", "now."]),
        ("你好吗。我很好。谢谢你。", 5, ["你好吗。", "我很好。", "谢谢你。"]),
        ("abcdefghij", 3, ["abc", "def", "ghi", "j"]),
        ("ab👩‍👩‍👧c", 9, ["ab", "👩‍👩‍👧c"]),
        ("abce\u0301f", 4, ["abc", "e\u0301f"]),
        ("a🙂🙂", 2, ["a", "🙂", "🙂"]),
    ],
)
def test_split_text(text: str, limit: int, parts: list[str]) -> None:
    """Texts are cut at the best place there is, counted as the platform counts (here: UTF-16 code units)."""
    assert split_text(text, limit, utf16) == parts


@pytest.mark.parametrize("limit", [2, 3, 11, 97])
def test_split_text_loses_nothing_but_white_space(limit: int) -> None:
    """Whatever the limit, all parts fit it and all other characters are there in order."""
    text = "A first line. It goes on!\n\nSecond 段落，中文。🙂👍🏽 e\u0301nd " * 5

    parts = split_text(text, limit, utf16)

    assert max(map(utf16, parts)) <= limit
    assert "".join("".join(parts).split()) == "".join(text.split())
