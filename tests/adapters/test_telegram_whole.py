"""Telegram with the real spine and store: a person's dialogue from the socket to the rows, and over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from talking import rows
from telegram_people import person
from telegram_server import Fault, TelegramServer
from telegram_stage import running, scene

from chatbot.conversation import Conversations
from chatbot.engine import EchoEngine
from chatbot.store import ConversationStore
from chatbot.wording import ENGLISH

__all__ = ["scene"]
Play = Callable[..., None]


def test_a_dialogue_is_answered_stored_and_rated(scene: Play, store: ConversationStore, url: str) -> None:
    """What a person types comes back answered, stands in the store, can be rated, shown and erased."""
    spine = Conversations(store, EchoEngine())

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, spine):
            for text in ("hello", "how are you?"):
                await server.say(ann, text)
            await server.until_sent(2)
            (buttons,) = ann.messages[max(ann.messages)]["reply_markup"]["inline_keyboard"]
            query = await server.press(ann, max(ann.messages), buttons[0]["callback_data"])
            await server.until(lambda: query in server.answered)
            assert server.answered[query]
            await server.say(ann, "/mydata")
            texts = await server.until_sent(3)
            assert texts[:2] == [f"{ENGLISH.first_contact}\n\nhello", "how are you?"]
            assert "hello" in texts[2]
            assert "reply_markup" not in server.sent[2].params

    scene(act)
    kept = [(record.kind, record.text) for record in store.my_data("telegram", "501")]
    assert kept.count(("rating", "+1")) == 1
    assert [text for kind, text in kept if kind == "message"] == ["hello", "how are you?"]
    assert [text for kind, text in kept if kind == "reply"] == ["hello", "how are you?"]
    assert rows(url, "SELECT state, envelope, reply FROM inbox ORDER BY id") == [("sent", None, None)] * 3


def test_a_burst_is_one_answer_where_that_is_set(scene: Play, store: ConversationStore, url: str) -> None:
    """With telegram.merge_burst_s, three messages in one go are three rows and one reply to all of them."""
    spine = Conversations(store, EchoEngine())

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        for text in ("so", "tell me", "who are you?"):
            await server.say(ann, text)
        async with running(server, spine, merge_burst_s=0.5):
            [text] = await server.until_sent(1)
            assert text.endswith("\n\nso tell me who are you?")

    scene(act)
    assert rows(url, "SELECT state, envelope, reply FROM inbox ORDER BY id") == [("sent", None, None)] * 3
    assert rows(url, "SELECT count(*) FROM message WHERE role = 'user'") == [(3,)]


def test_a_press_in_another_chat_rates_nothing(scene: Play, store: ConversationStore) -> None:
    """A number that somebody made up belongs to no reply of that chat."""
    spine = Conversations(store, EchoEngine())

    async def act(server: TelegramServer) -> None:
        ann, bob = server.chat(501), server.chat(502)
        async with running(server, spine):
            await server.say(ann, "hello")
            await server.until_sent(1)
            data = ann.messages[2]["reply_markup"]["inline_keyboard"][0][0]["callback_data"]
            query = await server.press(bob, 2, data, person(502))
            await server.until(lambda: query in server.answered)
            assert server.answered[query] is None

    scene(act)
    assert [record.kind for record in store.my_data("telegram", "502")] == []


def test_nobody_consents_for_another(scene: Play, store: ConversationStore, url: str) -> None:
    """Buttons made up to give consent, a forwarded or quoted yes, and a name behind it put nothing into the ledger."""
    spine = Conversations(store, EchoEngine())

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        ann, bob = person(501), person(502)
        async with running(server, spine):
            asked = await server.say(group, "/consent", ann)
            await server.until_sent(1)
            for data in ("consent:yes", "/consent yes", "fb:1:+", f"consent:501:{asked['message_id']}:yes"):
                query = await server.press(group, 2, data, bob)
                await server.until(lambda query=query: query in server.answered)  # type: ignore[misc]  # bound early
            origin = {"type": "user", "date": 1, "sender_user": ann}
            await server.say(group, "/consent yes", bob, forward_origin=origin)
            await server.say(group, "/consent yes @Ann", bob)
            await server.say(group, "/consent yes", bob, reply_to=asked["message_id"])
            await server.until_sent(3)

    scene(act)
    assert [record.text for record in store.my_data("telegram", "501")] == []
    assert [record.text for record in store.my_data("telegram", "502")] == ["given"]
    assert rows(url, "SELECT given, how FROM consent") == [(1, "/consent yes")]


def test_a_group_keeps_its_talk_when_it_moves(scene: Play, store: ConversationStore, url: str) -> None:
    """What was said under the old id is there under the new one, and what was on its way arrives, once."""
    spine = Conversations(store, EchoEngine())

    async def act(server: TelegramServer) -> None:
        old, new = server.chat(-77, "group"), server.chat(-100200, "supergroup")
        ann = person(501)
        async with running(server, spine):
            await server.say(old, "@FamilectTestBot one", ann)
            await server.until_sent(1)
            old.moved_to = -100200
            await server.say(old, "@FamilectTestBot two", ann)
            await server.say(old, sender=ann, migrate_to_chat_id=-100200)
            await server.say(new, sender=ann, migrate_from_chat_id=-77)
            await server.say(new, "@FamilectTestBot three", ann)
            texts = await server.until_sent(3)
            assert sorted(text.rpartition("\n")[2] for text in texts) == ["one", "three", "two"]
            await server.until(lambda: rows(url, "SELECT DISTINCT state FROM inbox") == [("sent",)])

    scene(act)
    assert len(store.my_data("telegram", "501", "-100200")) == 6
    assert store.my_data("telegram", "501", "-77") == []


def test_faults_and_restarts_lose_and_double_nothing(scene: Play, store: ConversationStore, url: str) -> None:
    """With refusals of all kinds, and sessions that end in the middle, each message gets its answer, once."""
    spine = Conversations(store, EchoEngine())
    said = [f"message {number}" for number in range(30)]

    async def act(server: TelegramServer) -> None:
        server.faults["getUpdates"].extend([Fault("drop"), Fault("status", 502), Fault("garbage")])
        server.faults["sendMessage"].extend([Fault("status", 502), Fault("flood", 1), Fault("status", 500)])
        for number, text in enumerate(said[:20]):
            await server.say(server.chat(501 + number % 7), text)
        for _ in range(3):
            async with running(server, spine, drain=0.0):
                await asyncio.sleep(0.2)
        for number, text in enumerate(said[20:]):
            await server.say(server.chat(501 + number % 7), text)
        async with running(server, spine):
            await server.until(lambda: not server.queue)
            await server.until(
                lambda: rows(url, "SELECT count(*) FROM inbox WHERE state IN ('sent', 'unknown')") == [(len(said),)]
            )
        texts = [call.params["text"] for call in server.sent]
        assert len(texts) == len(set(texts))
        lost = rows(url, "SELECT count(*) FROM inbox WHERE state = 'unknown'")[0][0]
        assert len(said) - lost <= len(texts) <= len(said)

    scene(act)
