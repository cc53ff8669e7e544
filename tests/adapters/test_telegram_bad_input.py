"""Updates that no honest client sends: nothing crashes, no content is logged, and the next message is answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakes import MemorySpine
from telegram_people import Chat, Json, person
from telegram_server import BOT, TelegramServer
from telegram_stage import running, scene

from chatbot.messages import Message, Reply

__all__ = ["scene"]
Play = Callable[..., None]
PRIVATE: Json = {"id": 501, "type": "private", "first_name": "secret"}
GROUP = Chat(-77, "group").json()
GOOD: Json = {"message_id": 70, "date": 1_700_000_000, "chat": PRIVATE, "from": person(501), "text": "secret"}


def without(*keys: str) -> Json:
    """A message that lacks something."""
    return {key: value for key, value in GOOD.items() if key not in keys}


# Kind and content of an update, and how many lines are logged about it.
UPDATES: dict[str, tuple[str, Any, int]] = {
    "no kind": ("any", {}, 0),
    "an unknown kind": ("any", {"chat_boosted_twice": {"secret": True}}, 0),
    "a kind of the future": ("any", {"message_of_tomorrow": GOOD}, 0),
    "no id": ("message", without("message_id"), 1),
    "no chat": ("message", without("chat"), 1),
    "no sender": ("message", without("from") | {"chat": GROUP}, 0),
    "a message that is a text": ("message", "secret", 1),
    "a message that is a list": ("message", ["secret"], 1),
    "a sender that is a text": ("message", GOOD | {"from": "secret"}, 1),
    "a sender without an id": ("message", GOOD | {"from": {"first_name": "secret"}}, 1),
    "a text that is a number": ("message", GOOD | {"text": 13}, 1),
    "a text that is an object": ("message", GOOD | {"text": {"secret": 1}}, 1),
    "a date that is none": ("message", GOOD | {"date": "secret"}, 1),
    "a date beyond all": ("message", GOOD | {"date": 10**18}, 1),
    "a chat of an unknown type": ("message", GOOD | {"chat": {"id": 501, "type": "secret"}}, 0),
    "entities that are none": ("message", GOOD | {"entities": "secret"}, 1),
    "a press without a sender": ("callback_query", {"id": "7", "chat_instance": "1", "data": "fb:1:+"}, 1),
    "a press without a message": (
        "callback_query",
        {"id": "7", "from": person(501), "chat_instance": "1", "data": "fb:1:+"},
        0,
    ),
    "an edit of nothing": ("edited_message", {}, 1),
    "a migration to nowhere": ("message", without("text") | {"chat": GROUP, "migrate_to_chat_id": "secret"}, 0),
}


@pytest.mark.parametrize("case", UPDATES)
def test_an_update_that_makes_no_sense_is_passed_over(scene: Play, caplog: pytest.LogCaptureFixture, case: str) -> None:
    """It is confirmed like any other, logged once at most and without its content, and the next one is answered."""
    caplog.set_level(logging.DEBUG)
    kind, content, lines = UPDATES[case]
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, spine):
            await server.push(kind, content)
            await server.say(ann, "next")
            await server.until(lambda: [call for call in server.sent if call.params["text"] == "re: next"])
            await server.until(lambda: not server.queue)

    scene(act)
    logged = [record for record in caplog.records if record.name.startswith("adapters")]
    assert len(logged) == lines
    assert "secret" not in caplog.text


def test_updates_that_are_no_objects_do_not_stop_the_rest(scene: Play) -> None:
    """Even what has no number of its own does not keep what follows from being answered."""

    async def act(server: TelegramServer) -> None:
        server.queue = [{"update_id": 7000, "message": None}, {"update_id": 7001, "message": GOOD}]
        server.chat(501)
        async with running(server, MemorySpine()):
            assert await server.until_sent(1) == ["re: secret"]
            await server.until(lambda: not server.queue)

    scene(act)


TEXTS = {
    "a megabyte": "a " * 500_000,
    "zero width": "\u200b\u200c\u200d\ufeff\u2060",
    "bidi": "\u202egnirts desrever\u202c \u2066x\u2069",
    "half a character": "half \ud83d of it",
    "NUL": "zero\0byte",
    "mark-up": "<b>&amp;*_`[x](tg://user?id=1)</b>",
    "a command that is no text": "/\u200bhelp",
    "combining": "e" + "\u0301" * 5000,
}


@pytest.mark.parametrize("case", TEXTS)
def test_odd_texts_are_answered(scene: Play, case: str) -> None:
    """They reach the spine as they are, but for what no database takes, and have an answer."""

    async def shortly(message: Message) -> Reply:
        return Reply(message.text[:4000], "m", "echo")

    spine = MemorySpine(shortly)

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            await server.say(server.chat(501), TEXTS[case], entities=[])
            await server.until(lambda: spine.ids)

    scene(act)
    assert [message.text for message in spine.messages] == [
        TEXTS[case].replace("\ud83d", "\ufffd").replace("\0", "\ufffd")
    ]
    assert ("1", "sent") in spine.states


def test_ten_thousand_mentions_are_read_quickly(scene: Play) -> None:
    """All of the bot's are taken out, in well under the time in which anybody would notice."""
    spine = MemorySpine()
    text = "@FamilectTestBot " * 10_000 + "hi"
    mention = {"type": "mention", "length": 16}

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        entities = [{**mention, "offset": 17 * number} for number in range(10_000)]
        async with running(server, spine):
            begun = time.process_time()
            await server.say(group, text, person(501), entities=entities)
            await server.until_sent(1)
            assert time.process_time() - begun < 2.0

    scene(act)
    assert [message.text for message in spine.messages] == ["hi"]


ENTITIES: dict[str, Json] = {
    "beyond the end": {"type": "mention", "offset": 900, "length": 16},
    "of no length": {"type": "mention", "offset": 0, "length": 0},
    "of negative length": {"type": "mention", "offset": 9, "length": -9},
    "of negative offset": {"type": "mention", "offset": -16, "length": 16},
    "inside a character": {"type": "mention", "offset": 1, "length": 16},
    "endless": {"type": "mention", "offset": 0, "length": 10**12},
    "of an unknown type": {"type": "mention_of_tomorrow", "offset": 3, "length": 16},
    "without a user": {"type": "text_mention", "offset": 0, "length": 3},
}


@pytest.mark.parametrize("case", ENTITIES)
def test_entities_that_lie_are_no_mentions(scene: Play, case: str) -> None:
    """Offsets out of range or between the halves of a character address nobody, and harm nobody."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        async with running(server, spine):
            await server.say(group, "🙂 @FamilectTestBot", person(501), entities=[ENTITIES[case]])
            await server.say(group, "/stats", person(501))
            await server.until_sent(1)

    scene(act)
    assert [message.text for message in spine.messages] == ["/stats"]


def test_a_mistake_of_ours_costs_one_update(scene: Play, caplog: pytest.LogCaptureFixture) -> None:
    """An update on which the spine fails again and again is passed over, and said so once, without its content."""

    class Broken(MemorySpine):
        async def edit(self, message: Message) -> None:
            raise ZeroDivisionError(message.text)

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, Broken()):
            ann.add(person(501), text="before")
            await server.edit(ann, 1, "secret")
            await server.say(ann, "next")
            assert await server.until_sent(1) == ["re: next"]
            await server.until(lambda: not server.queue)

    scene(act)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("adapters")]
    assert "ZeroDivisionError" in line
    assert "secret" not in line


def test_a_reply_to_a_message_that_is_gone(scene: Play) -> None:
    """The person's own message was deleted meanwhile: the answer comes, quoting nothing."""

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        message = group.add(person(501), text="/stats", reply_to_message={**GOOD, "chat": GROUP, "from": BOT})
        del group.messages[message["message_id"]]
        async with running(server, MemorySpine()):
            await server.push("message", message)
            assert await server.until_sent(1) == ["re: /stats"]

    scene(act)
