"""The spine: what is stored when, in which order, and what stands between people and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from fakes import ScriptedEngine, WordRules
from talking import KEY, said

from chatbot.conversation import Conversations
from chatbot.engine import EchoEngine
from chatbot.errors import EngineBusyError, UsageError
from chatbot.guard import GuardedEngine
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore
from chatbot.wording import CHINESE, ENGLISH


@pytest.fixture
def store() -> Iterator[ConversationStore]:
    """A store in memory."""
    opened = ConversationStore("sqlite://", KEY)
    yield opened
    opened.close()


@pytest.fixture
def engine() -> ScriptedEngine:
    """An engine that does as it is told."""
    return ScriptedEngine(EngineBusyError("257 requests are waiting"))


@pytest.fixture
def conversations(store: ConversationStore, engine: ScriptedEngine) -> Conversations:
    """The spine between the two."""
    return Conversations(store, GuardedEngine(engine, WordRules()))


def kept(store: ConversationStore) -> list[str]:
    """All the texts stored of the person of `said` and the replies to them."""
    return [record.text for record in store.my_data("terminal", "me")]


def ask(conversations: Conversations, *messages: Message) -> list[Reply]:
    """The replies to messages that come one after another."""

    async def one_by_one() -> list[Reply]:
        return [await conversations.answer(message) for message in messages]

    return asyncio.run(one_by_one())


def test_message_is_committed_before_the_engine_and_reply_before_it_is_shown(store: ConversationStore) -> None:
    """When the engine is asked the message is in the store, and when the answer comes the reply is, with its origin."""
    seen: list[list[str]] = []

    class Looking(EchoEngine):
        async def reply(self, history: object, text: str, **more: object) -> Reply:
            seen.append(kept(store))
            return Reply("hello", "m7", "seq2seq", -0.25, 12.5, {"beam_size": 3}, 11)

    [reply] = ask(Conversations(store, GuardedEngine(Looking(), WordRules())), said("hi", 1))

    assert seen == [["hi"]]
    assert kept(store) == ["hi", "hello"]
    assert reply == store.stored_reply(store.record_message(said("hi", 1)).id)


def test_history_reaches_the_engine(conversations: Conversations, engine: ScriptedEngine) -> None:
    """The engine sees the turns before a message, oldest first, and no other chat's or thread's."""
    ask(
        conversations,
        said("a", 1),
        said("b", 2),
        said("elsewhere", 3, chat="other"),
        said("beside", 4, thread="t"),
        said("c", 5),
    )

    assert engine.asked == [
        ([], "a"),
        (["a", "heard a"], "b"),
        ([], "elsewhere"),
        ([], "beside"),
        (["a", "heard a", "b", "heard b"], "c"),
    ]


def test_history_turns_bound_the_history(store: ConversationStore, engine: ScriptedEngine) -> None:
    """No more turns than asked for are shown to the engine."""
    conversations = Conversations(store, GuardedEngine(engine, WordRules()), history_turns=2)

    ask(conversations, said("a", 1), said("b", 2), said("c", 3))

    assert engine.asked[-1] == (["b", "heard b"], "c")


def test_options_reach_the_engine(conversations: Conversations, engine: ScriptedEngine) -> None:
    """A message's decode settings are the engine's options for it."""
    ask(conversations, said("hi", 1, options={"temperature": 0.7}))

    assert engine.options == [{"temperature": 0.7}]


def test_redelivery_gets_the_stored_reply(conversations: Conversations, engine: ScriptedEngine) -> None:
    """The same platform ids again are answered from the store: one row, one generation."""
    first, second = ask(conversations, said("hi", 1), said("hi", 1))

    assert first == second
    assert len(engine.asked) == 1


def test_redelivery_while_the_first_is_being_answered(conversations: Conversations, engine: ScriptedEngine) -> None:
    """Two deliveries at once are generated once."""

    async def both() -> list[Reply]:
        answers = [asyncio.create_task(conversations.answer(said("slow", 1))) for _ in range(2)]
        await engine.waiting.wait()
        engine.release.set()
        return list(await asyncio.gather(*answers))

    first, second = asyncio.run(both())

    assert first.text == second.text == "heard slow"
    assert len(engine.asked) == 1


def test_unanswered_message_is_answered_when_it_comes_again(
    store: ConversationStore, conversations: Conversations
) -> None:
    """A message stored before a crash gets its reply on redelivery."""
    store.record_message(said("hi", 1))

    [reply] = ask(conversations, said("hi", 1))

    assert reply.text == "heard hi"
    assert kept(store) == ["hi", "heard hi"]


def test_order_within_a_chat_and_none_between_chats(conversations: Conversations, engine: ScriptedEngine) -> None:
    """The second message of a chat waits for the first one's reply; another chat's does not."""
    done: list[str] = []

    async def scene() -> None:
        async def answer(message: Message) -> None:
            done.append((await conversations.answer(message)).text)

        first = asyncio.create_task(answer(said("slow one", 1)))
        await engine.waiting.wait()
        second = asyncio.create_task(answer(said("two", 2)))
        await answer(said("three", 3, chat="other"))
        engine.release.set()
        await asyncio.gather(first, second)

    asyncio.run(scene())

    assert done == ["heard three", "heard slow one", "heard two"]
    assert engine.asked[-1] == (["slow one", "heard slow one"], "two")


def test_locks_do_not_pile_up(conversations: Conversations) -> None:
    """Nothing is kept in memory for a chat in which nothing is being answered."""
    ask(conversations, *(said("hi", number, chat=f"chat {number}") for number in range(13)))

    assert len(conversations._locks) == 0


def test_cancelled_reply_leaves_the_message(
    store: ConversationStore, conversations: Conversations, engine: ScriptedEngine
) -> None:
    """Cancelling keeps what the person said, stores no reply, and the chat goes on as if it had not been answered."""

    async def scene() -> Reply:
        task = asyncio.create_task(conversations.answer(said("slow", 1)))
        await engine.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert kept(store) == ["slow"]
        return await conversations.answer(said("next", 2))

    assert asyncio.run(scene()).text == "heard next"
    assert engine.asked[-1] == ([], "next")


def test_cancelling_waits_for_what_is_being_written(store: ConversationStore, engine: ScriptedEngine) -> None:
    """A message cancelled while it is written is written when the cancelled task ends."""
    conversations = Conversations(store, GuardedEngine(engine, WordRules()))
    record, began = store.record_message, asyncio.Event()

    async def scene() -> None:
        loop = asyncio.get_running_loop()

        def slowly(message: Message) -> object:
            loop.call_soon_threadsafe(began.set)
            cancelled.result()
            return record(message)

        cancelled: Future[None] = Future()
        store.record_message = slowly  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(conversations.answer(said("hi", 1)))
        await began.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        cancelled.set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())

    assert kept(store) == ["hi"]
    assert engine.asked == []


def test_rule_before_answers_in_place_of_the_engine(
    store: ConversationStore, conversations: Conversations, engine: ScriptedEngine
) -> None:
    """What a rule answers never reaches the engine, and the reply names the rule."""
    [reply] = ask(conversations, said("an alarm", 1))

    assert Reply("help is near", "rules", "rules", detail="crisis", id=reply.id) == reply
    assert engine.asked == []
    assert kept(store) == ["an alarm", "help is near"]


def test_rule_after_replaces_what_the_engine_said(store: ConversationStore, conversations: Conversations) -> None:
    """A reply that a rule objects to is neither shown nor stored."""
    [reply] = ask(conversations, said("a secret", 1))

    assert (
        reply.text,
        reply.model_id,
        reply.engine,
        reply.detail,
        reply.score,
    ) == ("let us talk of something else", "rules", "rules", "hate", None)
    assert kept(store) == ["a secret", "let us talk of something else"]


@pytest.mark.parametrize(("text", "polite"), [("fail", "try again"), ("fail 你好", "稍后再试")])
def test_busy_engine_gets_a_polite_line(
    conversations: Conversations, engine: ScriptedEngine, text: str, polite: str
) -> None:
    """A full queue is answered in the person's language, and is not remembered as talk."""
    busy, _ = ask(conversations, said(text, 1), said("next", 2))

    assert busy.engine == "busy"
    assert polite in busy.text
    assert engine.asked[-1] == ([], "next")


def test_wrong_setting_is_raised_and_the_chat_goes_on(store: ConversationStore) -> None:
    """An engine's UsageError reaches the adapter; the message is kept and the next one answered."""
    conversations = Conversations(store, GuardedEngine(ScriptedEngine(UsageError("temperature is 50")), WordRules()))

    with pytest.raises(UsageError, match="temperature is 50"):
        ask(conversations, said("fail", 1))

    assert ask(conversations, said("next", 2))[0].text == "heard next"


def test_command_lines_are_neither_stored_nor_shown_to_the_engine(
    store: ConversationStore, conversations: Conversations, engine: ScriptedEngine
) -> None:
    """Commands are answered outside the talk, known or not, even where a rule would have matched."""
    replies = ask(conversations, said("a", 1), said("/help", 2), said("/alarm", 3), said("b", 4))

    assert [reply.engine for reply in replies] == ["echo", "command", "command", "echo"]
    assert set(kept(store)) == {"a", "heard a", "b", "heard b"}
    assert engine.asked[-1] == (["a", "heard a"], "b")


@pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "🙂" * 7, "مرحبا", "x" * 100_000, "\x1b[31m"])
def test_any_text_is_answered_and_stored(store: ConversationStore, text: str) -> None:
    """No text at all breaks the path from message to stored reply."""
    conversations = Conversations(store, GuardedEngine(EchoEngine(), WordRules()))

    [reply] = ask(conversations, said(text, 1))

    assert reply == store.stored_reply(store.record_message(said(text, 1)).id)


def messengers(text: str, number: int, **more: Any) -> Message:
    """A message on Telegram."""
    return said(text, number, "-5", "telegram", **more)


def accept_and_ask(conversations: Conversations, *messages: Message) -> list[Reply]:
    """The replies to messages that a messenger delivers one after another."""

    async def one_by_one() -> list[Reply]:
        assert all([await conversations.accept(message) for message in messages])
        return [await conversations.answer(message) for message in messages]

    return asyncio.run(one_by_one())


def test_an_accepted_message_is_followed_to_its_end(conversations: Conversations, store: ConversationStore) -> None:
    """It waits until there is a reply, then until that is out; delivered again, it is not taken."""
    message = messengers("hi", 1)

    async def follow() -> list[tuple[str, str | None]]:
        await conversations.accept(message)
        states = await states_of(conversations)
        reply = await conversations.answer(message)
        states += await states_of(conversations)
        await conversations.sending(message)
        states += await states_of(conversations)
        await conversations.done(message, "sent", ["70"])
        assert states[1:] == [("pending", reply.text), ("sending", reply.text)]
        assert await states_of(conversations) == []
        assert not await conversations.accept(message)
        return states

    assert asyncio.run(follow())[0] == ("received", None)


async def states_of(conversations: Conversations) -> list[tuple[str, str | None]]:
    """What waits on Telegram, and what is to be said to it."""
    return [
        (found.state, found.reply.text if found.reply else None) for found in await conversations.waiting("telegram")
    ]


def test_a_commands_reply_waits_to_be_sent(conversations: Conversations) -> None:
    """A command is stored nowhere, but its reply survives a crash before it is sent; its words wait no longer."""
    [reply] = accept_and_ask(conversations, messengers("/good at nothing", 1))

    [found] = asyncio.run(conversations.waiting("telegram"))

    assert (found.state, found.reply) == ("pending", reply)
    assert found.message.text == ""


def test_an_edit_on_the_way_is_what_the_engine_sees(conversations: Conversations, engine: ScriptedEngine) -> None:
    """A message edited between its arrival and its answer is answered, and stored, as it was edited."""
    message = messengers("helo", 1)

    async def edit_first() -> Reply:
        await conversations.accept(message)
        await conversations.edit(replace(message, text="hello"))
        return await conversations.answer(message)

    assert asyncio.run(edit_first()).text == f"{ENGLISH.first_contact}\n\nheard hello"
    assert engine.asked == [([], "hello")]


def test_a_message_deleted_on_the_way_is_not_answered(
    conversations: Conversations, store: ConversationStore, engine: ScriptedEngine
) -> None:
    """What was erased before it was answered is neither stored nor shown to the engine; there is nothing to say."""
    message = messengers("hello", 1)

    async def erase_first() -> Reply:
        await conversations.accept(message)
        await conversations.erase("telegram", "-5", "1")
        return await conversations.answer(message)

    assert asyncio.run(erase_first()).text == ""
    assert engine.asked == []
    assert store.my_data("telegram", "me") == []


def test_thanks_for_a_rating_are_in_the_replys_language(conversations: Conversations) -> None:
    """A line of thanks for a reply of this chat; None for another chat's, for nonsense, for numbers past all rows."""
    replies = accept_and_ask(conversations, messengers("hi", 1), messengers("你好", 2))
    english, chinese = (reply.id or 0 for reply in replies)

    async def rate(chat: str, reply_id: int, rating: int) -> str | None:
        return await conversations.rate("telegram", chat, "me", reply_id, rating)

    assert asyncio.run(rate("-5", english, 1)) == ENGLISH.rated[1]
    assert asyncio.run(rate("-5", chinese, -1)) == CHINESE.rated[-1]
    assert [
        asyncio.run(rate(*wrong))
        for wrong in (("-6", english, 1), ("-5", english, 5), ("-5", 10**30, 1), ("-5", -1, 1))
    ] == [None] * 4


def test_a_chat_that_moves_while_it_is_answered(conversations: Conversations, store: ConversationStore) -> None:
    """What came under the old id is answered, finished and known under the new one."""
    message = messengers("hi", 1)

    async def move_in_between() -> bool:
        await conversations.accept(message)
        await conversations.move("telegram", "-5", "-100")
        await conversations.answer(message)
        await conversations.done(message, "sent")
        return await conversations.accept(message)

    assert not asyncio.run(move_in_between())
    assert store.waiting("telegram") == []
    assert not store.knows_chat("telegram", "-5")
    assert store.stats().chats == {"telegram": 1}


def test_people_are_told_once_in_each_chat_what_they_have_to_know(
    conversations: Conversations, store: ConversationStore
) -> None:
    """Above the first reply to each person in each chat, in their language; in no row, and not at a terminal."""
    replies = accept_and_ask(
        conversations,
        messengers("hi", 1),
        messengers("hi again", 2, thread="7"),
        messengers("/help", 3, sender="bob"),
        messengers("/start", 4, sender="cem"),
        messengers("hello", 5, sender="cem"),
        replace(messengers("你好", 6), chat="-6"),
    )

    assert [reply.text for reply in replies] == [
        f"{ENGLISH.first_contact}\n\nheard hi",
        "heard hi again",
        f"{ENGLISH.first_contact}\n\n{ENGLISH.help}",
        ENGLISH.first_contact,
        "heard hello",
        f"{CHINESE.first_contact}\n\nheard 你好",
    ]
    shown = [found.reply.text for found in store.waiting("telegram") if found.reply is not None]
    assert shown == [reply.text for reply in replies]
    assert {record.text for record in store.my_data("telegram", "me") if record.kind == "reply"} == {
        "heard hi",
        "heard hi again",
        "heard 你好",
    }
    assert ask(conversations, said("hi", 1))[0].text == "heard hi"


def test_who_got_no_reply_is_told_with_the_next(conversations: Conversations) -> None:
    """A reply that the platform refused for good has told nobody."""

    async def twice() -> list[str]:
        texts = []
        for number, state in ((1, "failed"), (2, "sent")):
            message = messengers("hi", number)
            await conversations.accept(message)
            texts.append((await conversations.answer(message)).text)
            await conversations.done(message, state)  # type: ignore[arg-type]  # the two literals above
        return texts

    assert asyncio.run(twice()) == [f"{ENGLISH.first_contact}\n\nheard hi"] * 2


def test_messages_answered_together(
    conversations: Conversations, store: ConversationStore, engine: ScriptedEngine
) -> None:
    """The engine gets all that was said, each message is a row, the reply is the last one's, the rest is done with."""
    messages = [messengers(text, number) for number, text in enumerate(("so", "tell me", "who are you?"))]

    async def together() -> Reply:
        for message in messages:
            await conversations.accept(message)
        return await conversations.answer(messages[-1], messages[:-1])

    reply = asyncio.run(together())

    assert reply.text.endswith("heard so\ntell me\nwho are you?")
    assert engine.asked == [([], "so\ntell me\nwho are you?")]
    assert [record.text for record in store.my_data("telegram", "me") if record.kind == "message"] == [
        "so",
        "tell me",
        "who are you?",
    ]
    [left] = store.waiting("telegram")
    assert (left.message.message_id, left.state) == ("2", "pending")
    [again] = accept_and_ask(conversations, messengers("and now?", 9))
    assert engine.asked[-1] == (["so\ntell me\nwho are you?", "heard so\ntell me\nwho are you?"], "and now?")
    assert again.text == "heard and now?"
