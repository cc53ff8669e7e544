"""A messenger's messages followed through the store: what a new start finds, and what is left when all is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from talking import ON_SQLITE, rows, said

from chatbot.messages import Message, Reply, Waiting
from chatbot.store import ConversationStore


def sent(text: str, number: int, chat: str = "-5", **more: object) -> Message:
    """A message on Telegram."""
    return said(text, number, chat, "telegram", **more)


def answer(store: ConversationStore, message: Message, text: str = "hello") -> Reply:
    """Record a message and a reply to it; the reply with the id of its row."""
    reply = Reply(text, "m1", "seq2seq")
    return replace(reply, id=store.record_reply(store.record_message(message).id, reply))


def test_a_message_is_accepted_once(store: ConversationStore) -> None:
    """The same platform ids again are refused, before and after it is done; another chat or thread is another one."""
    message = sent("hi", 1)

    assert store.accept(message)
    assert not store.accept(message)
    store.delivering(message, "sent", ["7"])
    assert not store.accept(message)
    assert store.accept(sent("hi", 1, "-6"))
    assert store.accept(sent("hi", 1, thread="9"))


def test_calls_together_are_kept_or_lost_together(store: ConversationStore, url: str) -> None:
    """What a thread does meanwhile is one transaction, in which each call sees those before it."""
    with store.together():
        store.accept(sent("hi", 1))
        answer(store, sent("hi", 1))
        assert [waiting.state for waiting in store.waiting("telegram")] == ["pending"]
        assert rows(url, "SELECT 1 FROM inbox") == []
    assert rows(url, "SELECT state FROM inbox") == [("pending",)]

    def halfway() -> None:
        with store.together():
            store.delivering(sent("hi", 1), "sending")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        halfway()
    assert rows(url, "SELECT state FROM inbox") == [("pending",)]


def test_what_waits_comes_back_as_it_was(store: ConversationStore) -> None:
    """All of a message and the reply come back, oldest first, by platform, with how far each has come."""
    whole = replace(sent("你好\n🙂", 1), thread="9", reply_to="0", options={"temperature": 0.5})
    others = [sent(f"text {number}", number) for number in (2, 3, 4)]
    for message in (whole, *others, said("elsewhere", 1, platform="discord")):
        store.accept(message)

    replies = [answer(store, message) for message in others]
    store.delivering(others[1], "sending")
    store.delivering(others[2], "pending", ["70", "71"])

    assert store.waiting("telegram") == [
        Waiting(whole, None, "received"),
        Waiting(others[0], replies[0], "pending"),
        Waiting(others[1], replies[1], "sending"),
        Waiting(others[2], replies[2], "pending", ("70", "71")),
    ]


def test_a_reply_and_its_state_are_one_commit(store: ConversationStore, url: str) -> None:
    """The reply's row carries the state that its message has, from the moment that there is a reply."""
    message = sent("hi", 1)
    store.accept(message)
    seen = []

    answer(store, message)
    for state in ("sending", "pending", "sending", "failed"):
        seen += rows(url, "SELECT i.state, m.delivery FROM inbox i JOIN message m ON m.id = i.reply_id")
        store.delivering(message, state)

    assert seen == [(state, state) for state in ("pending", "sending", "pending", "sending")]
    assert rows(url, "SELECT state FROM inbox") == [("failed",)]
    assert rows(url, "SELECT delivery FROM message WHERE role = 'bot'") == [("failed",)]


@pytest.mark.parametrize("end", ["sent", "failed", "unknown"])
def test_no_words_stay_when_all_is_done(store: ConversationStore, url: str, end: str) -> None:
    """The row keeps the platform's ids of the message and of the parts, and nothing that was said or by whom."""
    message = sent("/teach a word", 1, sender="4711")
    store.accept(message)
    store.answered(message, Reply("thank you", "command", "command"))

    store.delivering(message, end, ["70"])

    assert rows(url, "SELECT platform_message_id, state, envelope, reply, CAST(sent AS TEXT) FROM inbox") == [
        ("1", end, None, None, '["70"]')
    ]
    assert store.waiting("telegram") == []


def test_what_a_terminal_says_is_in_no_inbox(store: ConversationStore, url: str) -> None:
    """Messages that were not accepted are answered without a row, and their replies have no delivery."""
    answer(store, said("hi", 1))

    assert rows(url, "SELECT count(*) FROM inbox") == [(0,)]
    assert rows(url, "SELECT delivery FROM message") == [(None,), (None,)]


def test_an_edit_before_the_answer_is_what_is_answered(store: ConversationStore) -> None:
    """The new text takes the place of the old one while nothing has been said to it."""
    message = sent("helo", 1)
    store.accept(message)

    store.edit(replace(message, text="hello"))

    assert store.latest(message) == replace(message, text="hello")
    assert [found.message.text for found in store.waiting("telegram")] == ["hello"]


def test_an_edit_after_the_answer_changes_the_row(store: ConversationStore, url: str) -> None:
    """The row has the new text and says that it was edited; the reply stays, nothing waits, erased rows stay empty."""
    message, erased = sent("helo", 1), sent("gone", 2)
    for one in (message, erased):
        store.accept(one)
        answer(store, one)
        store.delivering(one, "sent")
    store.erase("telegram", "-5", "2")

    for one in (message, erased, sent("never seen", 3)):
        store.edit(replace(one, text="hello again"))

    assert rows(url, "SELECT text, edited_at IS NULL FROM message WHERE role = 'user' ORDER BY id") == [
        ("hello again", 0),
        ("", 1),
    ]
    assert store.waiting("telegram") == []


def test_forget_takes_what_waits(store: ConversationStore, tmp_path: Path) -> None:
    """A person's words that wait to be answered or sent are gone from the files, too; others' and the command stay."""
    mine, pending, command = sent("secret one", 1), sent("secret two", 2), sent("/forget all", 3)
    yours = sent("yours", 4, sender="you")
    for message in (mine, pending, command, yours):
        store.accept(message)
    answer(store, pending, "secret three")

    store.forget("telegram", "me")

    assert b"secret" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert [found.message for found in store.waiting("telegram")] == [command, yours]
    assert store.latest(mine) is None


@ON_SQLITE
def test_deleting_on_the_platform_erases(store: ConversationStore, tmp_path: Path) -> None:
    """A message deleted there is erased here with the reply to it, answered or still waiting, and no other."""
    answered, waits, other = sent("secret one", 1, thread="9"), sent("secret two", 2, thread="9"), sent("stays", 3)
    for message in (answered, waits, other):
        store.accept(message)
    answer(store, answered, "secret three")
    store.delivering(answered, "sent")

    for number in ("1", "2", "77"):
        store.erase("telegram", "-5", number, "9")

    assert b"secret" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert store.latest(waits) is None
    assert [found.message for found in store.waiting("telegram")] == [other]


def test_ratings_by_row_stay_in_their_chat(store: ConversationStore) -> None:
    """The reply of a row is rated from its own chat, any thread, and refused from elsewhere or for what is no reply."""
    message = sent("hi", 1, thread="9")
    reply = answer(store, message)
    assert reply.id is not None
    question = store.record_message(message).id

    assert store.rate_reply("telegram", "-5", "me", reply.id, 1) == "hello"
    assert store.rate_reply("telegram", "-5", "me", reply.id, -1) == "hello"
    assert store.rate_reply("telegram", "-6", "me", reply.id, 1) is None
    assert store.rate_reply("discord", "-5", "me", reply.id, 1) is None
    assert store.rate_reply("telegram", "-5", "me", question, 1) is None
    assert store.rate_reply("telegram", "-5", "me", 4711, 1) is None
    assert [record.text for record in store.my_data("telegram", "me") if record.kind == "rating"] == ["-1"]


def test_a_chat_moves_with_all_it_has(store: ConversationStore) -> None:
    """History, consent and what waits are found under the new id; threads stay threads."""
    first, waits = sent("hi", 1), sent("there", 2, thread="9")
    store.consent("telegram", "-5", "me", True, "1", "/consent yes")
    for message in (first, waits):
        store.accept(message)
    answer(store, first)
    store.delivering(first, "sent")

    store.move("telegram", "-5", "-100")

    assert store.history(store.record_message(sent("and", 3, "-100")).id, 6) == ["hi", "hello"]
    assert {record.kind for record in store.my_data("telegram", "me", "-100")} >= {"message", "reply", "consent"}
    assert [found.message for found in store.waiting("telegram")] == [replace(waits, chat="-100")]
    assert not store.knows_chat("telegram", "-5")


def test_a_chat_moves_onto_one_that_began_already(store: ConversationStore) -> None:
    """Where the new chat has messages, even of the same numbers, both become one conversation, nothing lost."""
    old = [sent("one", 1), sent("two", 2)]
    new = sent("three", 1, "-100")
    for message in (*old, new):
        store.accept(message)
        answer(store, message, f"re {message.text}")

    store.move("telegram", "-5", "-100")

    said_there = {record.text for record in store.my_data("telegram", "me", "-100")}
    assert said_there >= {"two", "re two", "three", "re three"}
    assert {found.message.chat for found in store.waiting("telegram")} == {"-100"}
    assert len(store.waiting("telegram")) == 3


def test_newest_is_the_largest_number(store: ConversationStore) -> None:
    """Numbers count, not texts, in a chat with all its threads; an interaction's id is none."""
    for number in (9, 10, 8):
        store.accept(said("hi", number, "c", "discord", thread="t" if number == 10 else None))
    store.accept(replace(said("hi", 0, "c", "discord"), message_id="i999"))
    store.accept(said("hi", 99, "d", "discord"))

    assert store.newest("discord", "c") == "10"
    assert store.newest("discord", "never seen") is None


def test_only_discords_chats_are_known_by_their_ids(store: ConversationStore) -> None:
    """A Discord channel's number is kept to read what was missed; a Telegram chat's may be a person's and is not."""
    for platform in ("discord", "telegram"):
        store.accept(said("hi", 1, "77", platform))
        store.accept(said("hi", 2, "77", platform, thread="9"))

    assert store.chats("discord") == ["77"]
    assert store.chats("telegram") == []
