"""Who is stored how, what people are shown of themselves, and what is left of what they had erased."""

from __future__ import annotations

from pathlib import Path

import pytest
from talking import NOON, ON_SQLITE, change, rows, said, talk

from chatbot.rights import Erasure
from chatbot.store import ConversationStore


def test_my_data_shows_all_and_only_mine(store: ConversationStore) -> None:
    """Messages, the replies to them, corrections, ratings and consents of one person, of one chat if asked."""
    talk(store, "hi", "hello", sender="me", chat="c", platform="telegram")
    store.rate("telegram", "c", "me", -1)
    store.teach("telegram", "c", "me", "hi there")
    store.consent("telegram", "c", "me", True, "1", "/consent yes")
    store.record_message(said("not mine", 90, "c", "telegram", sender="you"))
    store.record_message(said("elsewhere", 91, "d", "telegram"))

    everything = store.my_data("telegram", "me")

    shown = {(record.kind, record.text) for record in everything}
    here = {
        ("message", "hi"),
        ("reply", "hello"),
        ("rating", "-1"),
        ("correction", "hi there"),
        ("consent", "given"),
    }
    assert shown == here | {("message", "elsewhere")}
    assert {(record.kind, record.text) for record in store.my_data("telegram", "me", "c")} == here
    assert store.my_data("discord", "me") == []
    assert [record.at for record in everything] == sorted(record.at for record in everything)


@ON_SQLITE
def test_forget_leaves_no_text_in_the_files(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """Messages, the replies to them and corrections are gone from rows and bytes; others' words and ids stay."""
    ids = talk(store, "secret one", "secret two", chat="c", platform="telegram")
    store.teach("telegram", "c", "me", "secret three")
    store.record_message(said("yours", 90, "c", "telegram", sender="you"))

    result = store.forget("telegram", "me")

    assert result == Erasure(messages=1, replies=1, corrections=1, tainted_models=())
    assert [record.text for record in store.my_data("telegram", "me")] == []
    assert [record.text for record in store.my_data("telegram", "you")] == ["yours"]
    assert b"secret" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert rows(url, "SELECT id FROM message WHERE deleted_at IS NOT NULL") == [(ids[0],), (ids[1],)]
    assert rows(url, "SELECT messages, replies, corrections FROM erasure") == [(1, 1, 1)]
    assert store.forget("telegram", "me") == Erasure(0, 0, 0, ())
    assert store.forget("telegram", "never seen") == Erasure(0, 0, 0, ())


def test_forget_one_chat_or_one_message(store: ConversationStore) -> None:
    """With a chat only that chat is erased, with a message only that one, and never another person's."""
    for number, (chat, sender) in enumerate((("c", "me"), ("c", "me"), ("d", "me"), ("c", "you"))):
        store.record_message(said(f"text {number}", number, chat, "telegram", sender=sender))

    assert store.forget("telegram", "me", "c", "3").messages == 0
    assert store.forget("telegram", "me", "c", "1").messages == 1
    assert [record.text for record in store.my_data("telegram", "me")] == ["text 0", "text 2"]
    assert store.forget("telegram", "me", "c").messages == 1
    assert [record.text for record in store.my_data("telegram", "me")] == ["text 2"]
    assert [record.text for record in store.my_data("telegram", "you")] == ["text 3"]
    with pytest.raises(ValueError, match="without its chat"):
        store.forget("telegram", "me", message="1")


def test_redelivery_of_an_erased_message_does_not_bring_it_back(store: ConversationStore) -> None:
    """What was forgotten stays forgotten when the platform delivers it again, and is in no history."""
    talk(store, "secret", "reply", "next")
    store.forget("terminal", "me", "default", "0")

    assert not store.record_message(said("secret", 0)).fresh

    assert store.history(talk(store, "last")[0], 10) == []


@ON_SQLITE
def test_no_platform_id_of_a_person_is_stored(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """Neither a person's id nor a chat's is anywhere in the files, except a terminal chat's name."""
    store.record_message(said("hi", 1, "chat-4242", "telegram", sender="person-4711"))
    store.record_message(said("hi", 1, "my-name-for-it"))

    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert b"person-4711" not in raw
    assert b"chat-4242" not in raw
    assert b"my-name-for-it" in raw


def test_erasing_withdraws_what_waits_for_review(store: ConversationStore, url: str) -> None:
    """A review that was to decide about an erased reply is closed, and its note gone."""
    _, reply = talk(store, "secret", "answer")
    change(
        url,
        f"INSERT INTO review (message_id, kind, state, why, at) VALUES ({reply}, 'reply', 'waiting', 'x', '{NOON}')",
    )

    store.forget("terminal", "me")

    assert rows(url, "SELECT state, why FROM review") == [("rejected", "erased")]
