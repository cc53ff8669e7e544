"""Telegram, as people meet it: what is answered and where, commands, groups, topics, buttons, the typing sign."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest
from fakes import MemorySpine
from telegram_people import ANONYMOUS_ADMIN, Chat, Json, person, units
from telegram_server import BOT, TelegramServer
from telegram_stage import running, scene

from adapters.admission import Admission
from adapters.telegram import Timing
from chatbot.access import Access, AccessList, Limits
from chatbot.messages import Message, Reply

__all__ = ["scene"]
Play = Callable[..., None]
ANN, BOB = person(501), person(502, "Bob")
ZOE = person(503, "Zoe", "zh-hans")


def test_a_text_is_answered_in_its_chat(scene: Play) -> None:
    """A private message reaches the spine as it was written, and its reply its chat, as plain text and no quotation."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, spine):
            await server.say(ann, "hi *there* 🙂")
            assert await server.until_sent(1) == ["re: hi *there* 🙂"]
        assert server.sent[0].chat == 501
        assert not {"parse_mode", "reply_parameters", "message_thread_id"} & set(server.sent[0].params)

    scene(act)
    (message,) = spine.messages
    assert (message.platform, message.chat, message.sender, message.text) == ("telegram", "501", "501", "hi *there* 🙂")
    assert (message.message_id, message.thread, message.reply_to) == ("1", None, None)
    assert message.sent_at.utcoffset() is not None
    assert spine.states == [("1", state) for state in ("received", "pending", "sending", "sent")]
    assert spine.ids == {"1": ("2",)}


def test_the_menu_has_both_languages_and_both_kinds_of_chat(scene: Play) -> None:
    """At the start the commands are set for private chats and for groups, in English for all and in Chinese."""

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine()):
            await server.until(lambda: len(server.commands) == 4)
        kinds = ("all_private_chats", "all_group_chats")
        assert set(server.commands) == {(kind, language) for kind in kinds for language in ("", "zh")}
        names = {entry["command"] for entry in server.commands["all_private_chats", ""]}
        wanted = "start help settings privacy reset consent mydata forget teach stats"
        assert set(wanted.split()) <= names
        assert server.commands["all_private_chats", "zh"][0]["description"] == "我会做什么"

    scene(act)


# What is written in a group, and what of it reaches the spine.
IN_A_GROUP: dict[str, tuple[str, str | None]] = {
    "talk among people": ("hello everybody", None),
    "our command": ("/help", "/help"),
    "our command by name": ("/forget@FamilectTestBot all", "/forget all"),
    "our name in capitals": ("/help@familecttestBOT", "/help"),
    "the command of another bot": ("/help@WeatherBot", None),
    "a command that we do not have": ("/weather Rome", None),
    "a command that we do not have, to us": ("/weather@FamilectTestBot Rome", "/weather Rome"),
    "a mention": ("@FamilectTestBot, how are you?", "how are you?"),
    "a mention after characters of two units": ("🙂🙂 hi @FamilectTestBot there", "🙂🙂 hi there"),
    "two mentions": ("@FamilectTestBot hi @familecttestbot", "hi"),
    "nothing but a mention": ("@FamilectTestBot", "@FamilectTestBot"),
    "a mention of somebody else": ("@WeatherBot, how are you?", None),
    "a mention of a longer name": ("@FamilectTestBot2 hi", None),
    "a command after a mention": ("@FamilectTestBot /help", "/help"),
    "the name in an address": ("write to x@FamilectTestBot", None),
    "the deep link": ("/start@FamilectTestBot consent", "/consent"),
}


@pytest.mark.parametrize("case", IN_A_GROUP)
def test_in_groups_only_what_is_addressed_is_taken(scene: Play, case: str) -> None:
    """Commands to us, mentions by entity, and nothing else; the mention itself is not part of the text."""
    text, taken = IN_A_GROUP[case]
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "supergroup")
        async with running(server, spine):
            await server.say(group, text, ANN)
            await server.say(group, "/stats", ANN)
            await server.until(lambda: [m for m in spine.messages if m.text == "/stats"])

    scene(act)
    assert [message.text for message in spine.messages] == [*([] if taken is None else [taken]), "/stats"]


def test_a_reply_to_the_bot_is_answered_as_a_reply(scene: Play) -> None:
    """In a group a reply to the bot is for it, one to a person is not; the answer quotes, even what is gone by then."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        async with running(server, spine):
            await server.say(group, "@FamilectTestBot hi", ANN)
            await server.until_sent(1)
            await server.say(group, "a thing between us", BOB, reply_to=1)
            message = await server.say(group, "and you?", BOB, reply_to=2)
            await server.until_sent(2)
        assert server.sent[1].params["reply_parameters"]["message_id"] == message["message_id"]
        assert server.sent[1].params["reply_parameters"]["allow_sending_without_reply"] is True

    scene(act)
    assert [(message.text, message.reply_to) for message in spine.messages] == [("hi", None), ("and you?", "2")]


def test_a_mention_by_name_without_username(scene: Play) -> None:
    """A text mention names the user, not a username."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        async with running(server, spine):
            mention = {"type": "text_mention", "offset": 0, "length": 8, "user": BOT}
            await server.say(group, "Familect hi", ANN, entities=[{**mention, "user": BOB}])
            await server.say(group, "Familect ho", ANN, entities=[mention])
            await server.until_sent(1)

    scene(act)
    assert [message.text for message in spine.messages] == ["ho"]


def test_ambient_takes_all_talk_in_groups(scene: Play) -> None:
    """With telegram.ambient on, everything that people write in a group is for the bot."""

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine(), ambient=True):
            await server.say(server.chat(-77, "group"), "hello everybody", ANN)
            assert await server.until_sent(1) == ["re: hello everybody"]

    scene(act)


def test_the_deep_link_for_consent_asks_for_it(scene: Play) -> None:
    """`/start consent`, which t.me/<bot>?start=consent sends, is /consent; any other /start is a /start."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            for text in ("/start consent", "/start", "/start elsewhere"):
                await server.say(server.chat(501), text)
            await server.until_sent(3)

    scene(act)
    assert [message.text for message in spine.messages] == ["/consent", "/start", "/start elsewhere"]


def test_topics_are_conversations_of_their_own(scene: Play) -> None:
    """A topic's message is answered in it, typing too; the thread id of a chain of replies is no topic."""

    async def slowly(message: Message) -> Reply:
        await asyncio.sleep(0.1)
        return Reply("yes", "m", "echo")

    spine = MemorySpine(slowly)

    async def act(server: TelegramServer) -> None:
        forum = server.chat(-88, "supergroup", is_forum=True, topics={5})
        opened = {"message_id": 5, "date": 1, "chat": forum.json(), "from": BOT, "message_thread_id": 5}
        forum.messages[5] = {**opened, "is_topic_message": True, "forum_topic_created": {"name": "t", "icon_color": 0}}
        async with running(server, spine):
            # Telegram names the message that opened the topic, here the bot's, as the one that is answered.
            await server.say(forum, "talk among people", ANN, thread=5)
            await server.say(forum, "@FamilectTestBot one", ANN, thread=5)
            await server.until_sent(1)
            await server.say(forum, "@FamilectTestBot two", ANN, message_thread_id=6)
            await server.until_sent(2)
            assert [call.params.get("message_thread_id") for call in server.sent] == ["5", None]
            assert {call.params.get("message_thread_id") for call in server.made("sendChatAction")} == {"5", None}

    scene(act)
    assert [(m.text, m.thread, m.reply_to) for m in spine.messages] == [("one", "5", None), ("two", None, None)]


@pytest.mark.parametrize("trouble", ["gone", "closed"])
def test_a_topic_that_is_gone_ends_the_message(scene: Play, trouble: str) -> None:
    """ "message thread not found" and TOPIC_CLOSED are final; the next message in another topic is answered."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        forum = server.chat(-88, "supergroup", is_forum=True, topics={6} if trouble == "gone" else {5, 6})
        forum.closed_topics = {5}
        async with running(server, spine):
            await server.say(forum, "@FamilectTestBot one", ANN, thread=5)
            await server.say(forum, "@FamilectTestBot two", ANN, thread=6)
            await server.until_sent(1)
            await server.until(lambda: len(spine.ids) == 2)

    scene(act)
    assert ("1", "failed") in spine.states
    assert ("2", "sent") in spine.states


def test_an_edit_is_followed_and_not_answered(scene: Play) -> None:
    """An edited message brings its new text to the spine, without the mention, and no second answer."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        async with running(server, spine):
            await server.say(group, "@FamilectTestBot helo", ANN)
            await server.until_sent(1)
            await server.edit(group, 1, "@FamilectTestBot hello")
            await server.until(lambda: spine.edited)
            await server.say(group, "/stats", ANN)
            assert len(await server.until_sent(2)) == 2

    scene(act)
    assert [(message.message_id, message.text) for message in spine.edited] == [("1", "hello")]


def test_a_group_that_becomes_a_supergroup_keeps_its_state(scene: Play) -> None:
    """Both service messages about the new id move the chat in the spine."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            await server.say(server.chat(-77, "group"), sender=ANN, migrate_to_chat_id=-100200)
            await server.say(server.chat(-100200, "supergroup"), sender=ANN, migrate_from_chat_id=-77)
            await server.until(lambda: len(spine.moved) == 2)

    scene(act)
    assert spine.moved == [("-77", "-100200")] * 2
    assert spine.messages == []


def test_a_reply_follows_its_chat_to_the_new_id(scene: Play) -> None:
    """Where the old id is refused by then, the reply goes to the new one, once, and the spine hears of it."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        group, _ = server.chat(-77, "group"), server.chat(-100200, "supergroup")
        group.moved_to = -100200
        async with running(server, spine):
            await server.say(group, "@FamilectTestBot hi", ANN)
            await server.until_sent(1)
            await server.until(lambda: spine.ids)
        assert [call.chat for call in server.sent] == [-100200]

    scene(act)
    assert spine.moved == [("-77", "-100200")]
    assert ("1", "sent") in spine.states


WORDLESS: dict[str, Json] = {
    "photo": {"photo": [{"file_id": "a", "file_unique_id": "a", "width": 3, "height": 5}], "caption": "look"},
    "voice": {"voice": {"file_id": "a", "file_unique_id": "a", "duration": 7}},
    "sticker": {
        "sticker": {
            **{"file_id": "a", "file_unique_id": "a", "type": "regular", "width": 3, "height": 5},
            **{"is_animated": False, "is_video": False},
        }
    },
    "location": {"location": {"longitude": 1.0, "latitude": 2.0}},
    "forwarded": {
        "text": "words of somebody else",
        "forward_origin": {"type": "user", "date": 1, "sender_user": BOB},
    },
    "via another bot": {"text": "made by a bot", "via_bot": {**BOT, "id": 7, "username": "gif"}},
}


@pytest.mark.parametrize("kind", WORDLESS)
def test_what_is_no_text_gets_a_courteous_line(scene: Play, kind: str) -> None:
    """One line, in the person's language, and nothing is kept."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            await server.say(server.chat(501), sender=ANN, **WORDLESS[kind])
            await server.until_sent(1)
            await server.say(server.chat(503), sender=ZOE, **WORDLESS[kind])
            english, chinese = await server.until_sent(2)
        assert "only read text" in english
        assert "文字" in chinese
        assert "reply_markup" not in server.sent[0].params

    scene(act)
    assert spine.messages == []


def test_an_album_gets_one_line_and_a_group_none(scene: Play) -> None:
    """Pictures that belong together are answered once; in a group only those that are for the bot."""

    async def act(server: TelegramServer) -> None:
        private, group = server.chat(501), server.chat(-77, "group")
        async with running(server, MemorySpine()):
            await server.say(group, sender=BOB, **WORDLESS["photo"])
            for _ in range(3):
                await server.say(private, sender=ANN, media_group_id="13", **WORDLESS["photo"])
            await server.say(private, "hi")
            assert len(await server.until_sent(2)) == 2
            assert [call.chat for call in server.sent] == [501, 501]

    scene(act)


# Updates that must lead to nothing at all.
SILENT: dict[str, Callable[[Chat, Chat], tuple[str, Json]]] = {
    "another bot": lambda p, g: ("message", g.add({**BOT, "id": 9}, text="@FamilectTestBot hi")),
    "itself": lambda p, g: ("message", g.add(BOT, text="@FamilectTestBot hi")),
    "channel post": lambda p, g: ("any", {"channel_post": g.add(None, sender_chat=g.json(), text="/help")}),
    "anonymous admin": lambda p, g: ("message", g.add(ANONYMOUS_ADMIN, sender_chat=g.json(), text="/help")),
    "automatic forward": lambda p, g: (
        "message",
        g.add(person(777000), sender_chat={"id": -5, "type": "channel", "title": "c"}, text="/help"),
    ),
    "new member": lambda p, g: ("message", g.add(ANN, new_chat_members=[BOT])),
    "pinned": lambda p, g: ("message", g.add(ANN, pinned_message=g.add(BOB, text="@FamilectTestBot hi"))),
    "left": lambda p, g: ("message", g.add(ANN, left_chat_member=BOB)),
    "edited by a bot": lambda p, g: ("edited_message", g.add({**BOT, "id": 9}, text="hi", edit_date=7)),
    "edited position": lambda p, g: ("edited_message", p.add(ANN, location={"longitude": 1.0, "latitude": 2.0})),
}


@pytest.mark.parametrize("case", SILENT)
def test_bots_channels_and_service_messages_are_ignored(scene: Play, case: str) -> None:
    """Nothing is answered or kept, and the next message is."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        private, group = server.chat(501), server.chat(-77, "supergroup")
        async with running(server, spine):
            await server.push(*SILENT[case](private, group))
            await server.say(private, "next")
            assert await server.until_sent(1) == ["re: next"]

    scene(act)
    assert spine.edited == []


def test_typing_is_shown_at_once_and_kept_alive(scene: Play) -> None:
    """While a reply is made the sign comes again and again, and no more after the reply."""
    release = asyncio.Event()

    async def slow(message: Message) -> Reply:
        await release.wait()
        return Reply("done", "m", "echo")

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine(slow)):
            await server.say(server.chat(501), "hi")
            await server.until(lambda: len(server.made("sendChatAction")) >= 3)
            release.set()
            await server.until_sent(1)
            count = len(server.made("sendChatAction"))
            await asyncio.sleep(0.2)
            assert len(server.made("sendChatAction")) <= count + 1  # one may have been under way

    scene(act)


def test_typing_comes_every_four_seconds() -> None:
    """The sign lasts five seconds at most, so it is renewed after four."""
    assert Timing().typing_s == 4.0


@pytest.mark.parametrize("script", ["a🙂", "词，", "word "])
def test_long_replies_come_in_parts(scene: Play, script: str) -> None:
    """Each part fits 4096 UTF-16 units, nothing is lost, the buttons stand under the last, and all ids are kept."""
    text = (script * 9000)[:9000].strip()

    async def long(message: Message) -> Reply:
        return Reply(text, "m", "echo", id=7)

    spine = MemorySpine(long)

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            await server.say(server.chat(-77, "group"), "/stats", ANN)
            await server.until(lambda: spine.ids)
        parts = [call.params for call in server.sent]
        assert max(units(part["text"]) for part in parts) <= 4096
        assert "".join("".join(part["text"] for part in parts).split()) == "".join(text.split())
        assert ["reply_markup" in part for part in parts] == [*[False] * (len(parts) - 1), True]
        assert ["reply_parameters" in part for part in parts] == [True, *[False] * (len(parts) - 1)]

    scene(act)
    assert len(spine.ids["1"]) >= 3


@pytest.mark.parametrize(("said", "shown"), [(" ", "…"), ("\u200b\u2060", "…"), ("half \ud83d", "half \ufffd")])
def test_something_can_always_be_sent(scene: Play, said: str, shown: str) -> None:
    """A reply that Telegram would take for blank, or that is no proper text, still gives a message."""

    async def odd(message: Message) -> Reply:
        return Reply(said, "m", "echo")

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine(odd)):
            await server.say(server.chat(501), "hi")
            assert await server.until_sent(1) == [shown]

    scene(act)


def test_an_empty_reply_is_not_sent(scene: Play) -> None:
    """It stands for a message that was erased before it was answered."""

    async def erased(message: Message) -> Reply:
        return Reply("", "command", "command", detail="erased")

    spine = MemorySpine(erased)

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            await server.say(server.chat(501), "hi")
            await server.until(lambda: spine.ids)
        assert server.made("sendMessage") == []

    scene(act)


def test_nobody_is_pinged_in_a_group(scene: Play) -> None:
    """A name in the bot's reply is no mention there."""

    async def act(server: TelegramServer) -> None:
        async with running(server, MemorySpine()):
            await server.say(server.chat(-77, "group"), "@FamilectTestBot say @everybody_here", ANN)
            await server.until_sent(1)
            assert "entities" not in server.chats[-77].messages[2]

    scene(act)


def shows(chat: Chat, texts: list[str]) -> bool:
    """Whether the buttons under the second message have these texts."""
    return [button["text"] for button in chat.messages[2]["reply_markup"]["inline_keyboard"][0]] == texts


def test_thumbs_rate_a_reply(scene: Play) -> None:
    """The buttons carry the reply's number, a press is rated in its chat, answered, and marked under the reply."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, spine):
            await server.say(ann, "hi")
            await server.until_sent(1)
            (row,) = ann.messages[2]["reply_markup"]["inline_keyboard"]
            assert [(button["text"], button["callback_data"]) for button in row] == [("👍", "fb:1:+"), ("👎", "fb:1:-")]
            for data, texts in (("fb:1:-", ["👍", "👎 ✓"]), ("fb:1:-", ["👍", "👎 ✓"]), ("fb:1:+", ["👍 ✓", "👎"])):
                query = await server.press(ann, 2, data)
                await server.until(partial(server.answered.get, query))
                await server.until(partial(shows, ann, texts))
                assert server.answered[query] == "Glad you liked it."

    scene(act)
    assert spine.rated == [("501", "501", 1, -1), ("501", "501", 1, -1), ("501", "501", 1, 1)]


HOSTILE = [
    "fb:1:*",
    "fb:-1:+",
    "fb:" + "9" * 50 + ":+",
    "fb:٣:+",
    "'; DROP TABLE message; --",
    "fb:1:+\n",
    "🙂" * 16,
    "",
    None,
]


@pytest.mark.parametrize("data", HOSTILE)
def test_callback_data_that_is_not_ours_is_harmless(scene: Play, data: str | None) -> None:
    """The press is answered, so that the person's app stops waiting, and nothing is rated."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, spine):
            query = await server.press(ann, 2, data)
            await server.until(lambda: query in server.answered)
            assert server.answered[query] is None

    scene(act)
    assert spine.rated == []


def test_a_press_without_a_message_is_answered(scene: Play) -> None:
    """As on what was sent by way of another chat: it is none of ours."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        async with running(server, spine):
            server.open_queries.add("7")
            pressed = {"id": "7", "from": ANN, "chat_instance": "1", "inline_message_id": "x", "data": "fb:1:+"}
            await server.push("callback_query", pressed)
            await server.until(lambda: "7" in server.answered)

    scene(act)
    assert spine.rated == []


def test_a_press_for_an_unknown_reply_is_answered(scene: Play) -> None:
    """A number that is no reply there, or a message that is gone, changes nothing; a late answer to it is no matter."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann = server.chat(501)
        async with running(server, spine):
            query = await server.press(ann, 99, "fb:12345:+")
            await server.until(lambda: query in server.answered)
            await server.press(ann, 99, "fb:12345:+")
            server.open_queries.clear()
            await server.say(ann, "next")
            assert await server.until_sent(1) == ["re: next"]
        assert server.made("editMessageReplyMarkup") == []

    scene(act)


def test_who_is_blocked_gets_nothing(scene: Play) -> None:
    """No answer, no row, no rating, but the app of who presses a button does not wait."""
    spine = MemorySpine()
    admission = Admission(Access(block=AccessList(users=("telegram:502",))), Limits(0, 0))

    async def act(server: TelegramServer) -> None:
        group = server.chat(-77, "group")
        async with running(server, spine, admission=admission):
            await server.say(group, "/stats", BOB)
            await server.say(group, sender=BOB, reply_to=1, **WORDLESS["voice"])
            query = await server.press(group, 2, "fb:1:+", BOB)
            await server.until(lambda: query in server.answered)
            await server.say(group, "/stats", ANN)
            await server.until_sent(1)

    scene(act)
    assert [message.sender for message in spine.messages] == ["501"]
    assert spine.rated == []


def test_who_is_too_fast_is_told_once(scene: Play) -> None:
    """Over the limit, one courteous line comes, then nothing."""
    spine = MemorySpine()

    async def act(server: TelegramServer) -> None:
        ann, bob = server.chat(501), server.chat(502)
        async with running(server, spine, admission=Admission(Access(), Limits(2, 0))):
            for text in ("one", "two", "three", "four", "five"):
                await server.say(ann, text)
            await server.say(bob, "six", BOB)
            texts = await server.until_sent(4)
            notice, *replies = sorted(texts)
            assert "please wait a minute" in notice
            assert replies == ["re: one", "re: six", "re: two"]

    scene(act)
    assert len(spine.messages) == 3


def test_conversations_run_side_by_side_each_in_order(scene: Play) -> None:
    """A chat whose reply takes long holds up nobody else, and its own messages stay in order."""
    release = asyncio.Event()

    async def answer(message: Message) -> Reply:
        if message.text == "slow":
            await release.wait()
        return Reply(message.text, "m", "echo")

    async def act(server: TelegramServer) -> None:
        ann, bob = server.chat(501), server.chat(502)
        async with running(server, MemorySpine(answer)):
            for chat, text in ((ann, "slow"), (ann, "a2"), (bob, "b1"), (ann, "a3"), (bob, "b2")):
                await server.say(chat, text)
            assert await server.until_sent(2) == ["b1", "b2"]
            release.set()
            assert await server.until_sent(5) == ["b1", "b2", "slow", "a2", "a3"]

    scene(act)
