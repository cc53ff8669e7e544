"""The log of talk on real SQLite files: messages, replies, histories, ratings, corrections, counts."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from talking import KEY, NOON, ON_SQLITE, rows, said, talk

from chatbot.importers.records import Row
from chatbot.messages import Message, Reply
from chatbot.records import storable
from chatbot.search import Wanted
from chatbot.store import ConversationStore, StoredMessage


def test_reply_row_holds_all_that_produced_it(store: ConversationStore, url: str) -> None:
    """Text, engine, model, decode settings, seed, latency, score and detail come back as they went in."""
    message = store.record_message(said("hi", 1))
    reply = Reply("hello", "m1", "seq2seq", -0.5, 31.0, {"temperature": 0.7, "beam": 3}, 11, "first")
    assert store.stored_reply(message.id) is None

    row = store.record_reply(message.id, reply)

    assert store.stored_reply(message.id) == replace(reply, id=row)


@ON_SQLITE
def test_times_are_utc(store: ConversationStore, url: str) -> None:
    """A message sent at 14:00+02:00 is stored, and comes back, as 12:00 UTC; a naive time is refused."""
    zone = timezone(timedelta(hours=2))
    store.record_message(Message("terminal", "default", "me", "hi", "1", datetime(2026, 5, 3, 14, tzinfo=zone)))

    assert rows(url, "SELECT created_at FROM message") == [("2026-05-03 12:00:00.000000",)]
    assert [record.at for record in store.my_data("terminal", "me")] == [NOON]
    with pytest.raises(Exception, match="without a time zone"):
        store.record_message(Message("terminal", "default", "me", "hi", "2", datetime(2026, 5, 3)))


def test_redelivery_changes_nothing(store: ConversationStore, url: str) -> None:
    """The same platform ids again give the same row, whatever the text; another chat or platform is another row."""
    first = store.record_message(said("hi", 1))

    again = store.record_message(said("changed", 1))

    assert (first.fresh, again) == (True, StoredMessage(first.id, False))
    assert store.record_message(said("hi", 1, "other")).fresh
    assert store.record_message(said("hi", 1, platform="telegram")).fresh
    assert store.record_message(said("hi", 1, thread="7")).fresh
    assert rows(url, "SELECT count(*) FROM message WHERE text = 'changed'") == [(0,)]


def test_redelivery_in_a_race_is_stored_once(store: ConversationStore, url: str) -> None:
    """Threads that deliver the same message at the same time agree on one row, and one of them is first."""
    found: list[StoredMessage] = []
    threads = [threading.Thread(target=lambda: found.append(store.record_message(said("hi", 1)))) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({one.id for one in found}) == 1
    assert sum(one.fresh for one in found) == 1


def test_reply_to_points_to_the_row(store: ConversationStore, url: str) -> None:
    """A platform's reply link becomes the id of the row it means; an unknown one is left out."""
    first = store.record_message(said("hi", 1))

    store.record_message(said("you!", 2, sender="you", reply_to="1"))
    store.record_message(said("who?", 3, reply_to="99"))

    assert rows(url, "SELECT reply_to_id FROM message ORDER BY id") == [(None,), (first.id,), (None,)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\0b", "a\ufffdb"),
        ("\ud83d \udfff", "\ufffd \ufffd"),
        ("你好 👋🏽 שלום", "你好 👋🏽 שלום"),
        ("", ""),
        ("x" * 100_000, "x" * 100_000),
    ],
)
def test_any_text_can_be_stored(store: ConversationStore, given: str, kept: str) -> None:
    """NUL and lone surrogates become U+FFFD in every text and id; all else is kept as it is."""
    message = store.record_message(said(given, 1, chat=f"c{given}", sender=f"s{given}", thread=given[:9]))
    store.record_reply(message.id, Reply(given, "m1", "seq2seq", detail=given, settings={"k": given}))
    store.teach("terminal", f"c{given}", "me", given, thread=given[:9])
    store.consent("terminal", f"c{given}", "me", True, "1", "typed")

    assert [record.text for record in store.my_data("terminal", f"s{given}")] == [kept, kept]
    assert store.latest_chat("terminal") == f"c{kept}"


def test_history_alternates_and_ends_with_the_bot(store: ConversationStore) -> None:
    """Worked example: one speaker's neighbours are one turn, an unanswered end is left out, other chats too."""
    ids = talk(store, "hi", "hello", "one", "", "two", "three", "four", "", "five")
    talk(store, "elsewhere", "no", chat="other")

    assert store.history(ids[0], 10) == []
    assert store.history(ids[2], 10) == ["hi", "hello"]
    assert store.history(ids[-1], 10) == ["hi", "hello", "one\ntwo", "three"]
    assert store.history(ids[-1], 3) == ["hello", "one\ntwo", "three"]
    assert store.history(ids[-1], 1) == ["three"]
    assert store.history(ids[-1], 0) == []


def test_history_knows_nothing_from_before_a_reset(store: ConversationStore) -> None:
    """After a reset talk starts anew, in that chat and thread alone; a row's own history stays what it was."""
    before = talk(store, "a", "b", "c")
    other = talk(store, "x", "y", "z", chat="other")

    store.reset("terminal", "default")
    store.reset("terminal", "never seen")
    after = talk(store, "d", "e", "f")

    assert store.history(after[0], 10) == []
    assert store.history(after[-1], 10) == ["d", "e"]
    assert store.history(before[-1], 10) == ["a", "b"]
    assert store.history(other[-1], 10) == ["x", "y"]


def test_correction_takes_the_place_of_the_reply(store: ConversationStore) -> None:
    """From then on the bot has said what it was taught last; without a reply there is nothing to correct."""
    assert not store.teach("terminal", "default", "me", "nothing to correct")
    talk(store, "hi", "bad")

    assert store.teach("terminal", "default", "me", "better")
    assert store.teach("terminal", "default", "me", "best")

    assert store.history(talk(store, "next")[0], 10) == ["hi", "best"]


def test_service_replies_are_no_talk(store: ConversationStore, url: str) -> None:
    """A busy answer or a command's output is neither remembered nor rated."""
    first = talk(store, "hi", "hello")
    message = store.record_message(said("again", 50))
    store.record_reply(message.id, Reply("later, please", "echo", "busy"))

    assert store.rate("terminal", "default", "me", 1)

    assert rows(url, "SELECT message_id FROM feedback") == [(first[1],)]
    assert store.history(talk(store, "next")[0], 10) == ["hi", "hello"]


@ON_SQLITE
def test_history_takes_no_longer_in_a_long_log(store: ConversationStore, url: str) -> None:
    """It is read by the index on chat and id: SQLite's plan has no scan, no sort of the whole chat, no other index.

    Of indexes that seem equally good SQLite takes the one it meets first, and their order differs between databases.
    """
    plans: list[str] = []
    ids = talk(store, "hi", "hello", "next")

    def explain(connection: Connection, _c: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            raw = connection.connection.cursor()
            raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in raw.fetchall())

    event.listen(store._engine, "before_cursor_execute", explain)
    store.history(ids[-1], 5)
    assert any("ix_message_chat_id_id" in plan for plan in plans)
    store.record_message(said("more", 77))
    store.record_reply(ids[-1], Reply("yes", "m1", "seq2seq"))
    store.rate("terminal", "default", "me", 1)
    store.my_data("terminal", "me")

    assert [plan for plan in plans if ("SCAN" in plan and "CONSTANT" not in plan) or "FOR ORDER BY" in plan] == []
    assert [plan for plan in plans if "deleted_at" in plan] == []


def test_rating_counts_once_per_person(store: ConversationStore, url: str) -> None:
    """A person's later rating replaces the earlier one; the last reply is meant; without a reply there is none."""
    assert not store.rate("terminal", "default", "me", 1)
    ids = talk(store, "hi", "hello", "more", "well")

    for sender, rating in (("me", 1), ("me", -1), ("you", 1)):
        assert store.rate("terminal", "default", sender, rating)

    assert rows(url, "SELECT message_id, rating FROM feedback ORDER BY id") == [(ids[3], -1), (ids[3], 1)]
    store.reset("terminal", "default")
    assert not store.rate("terminal", "default", "me", 1)


def test_latest_chat_is_the_last_one_written_in(store: ConversationStore) -> None:
    """`--continue` finds the terminal's chat by name, however busy the other platforms are."""
    assert store.latest_chat("terminal") is None
    for number, chat in enumerate(("first", "second", "first")):
        store.record_message(said("hi", number, chat))
    store.record_message(said("hi", 9, "4242", "telegram"))

    assert store.latest_chat("terminal") == "first"
    assert store.latest_chat("telegram") is None


def test_stats_count_everything(store: ConversationStore) -> None:
    """Chats and messages by platform, replies by model, ratings, corrections."""
    talk(store, "hi", "hello", "how?", "well")
    store.rate("terminal", "default", "me", 1)
    store.teach("terminal", "default", "me", "fine")
    talk(store, "hey", "ho", chat="4242", platform="discord")
    store.rate("discord", "4242", "me", -1)

    stats = store.stats()

    assert stats.chats == {"terminal": 1, "discord": 1}
    assert stats.messages == {"terminal": 2, "discord": 1}
    assert stats.replies == {"m1": 3}
    assert (stats.liked, stats.disliked, stats.corrections) == (1, 1, 1)


def test_memory_store_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sqlite://` works at once, from several threads, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    store = ConversationStore("sqlite://", KEY)
    threads = [threading.Thread(target=talk, args=(store, "a", "b"), kwargs={"chat": f"{n}"}) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.stats().messages == {"terminal": 5}
    assert store.forget("terminal", "me").messages == 5
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "trick",
    ["'; DROP TABLE message; --", '" OR 1=1; --', "%s %(x)s %% %n", "{0} {x!r} {", "\\x00 :x ? $1", "a\0b\ud800"],
)
def test_tricks_in_every_text_field(store: ConversationStore, url: str, trick: str) -> None:
    """SQL, format strings and what no database keeps are text like any other, in whatever field they come."""
    kept = storable(trick)
    message = Message("terminal", trick, trick, trick, trick, NOON, reply_to=trick, thread=trick)
    row = store.record_message(message).id
    reply = store.record_reply(row, Reply(trick, kept, "seq2seq", settings={kept: kept}, detail=trick), notice=trick)
    assert store.accept(replace(message, platform="telegram"))
    assert store.teach("terminal", trick, trick, trick, trick)
    store.consent("terminal", trick, trick, True, trick, trick)
    batch = store.record_import(kept, kept)
    store.add_imported(batch, "import", trick, [Row(trick, trick, trick, None, trick, trick, True)])
    store.record_model(kept, parent=kept, dataset=store.create_dataset(kept, kept, [row, reply]), metrics={kept: 1.0})

    assert [found.text for found in store.search(Wanted(words=(trick,)), 9)] == [kept] * 3
    assert store.search(Wanted(platform=trick, chat=trick, person=trick), 9) == []
    assert {record.text for record in store.my_data("terminal", trick, trick)} >= {kept}
    assert [storable(waiting.message.text) for waiting in store.waiting("telegram")] == [kept]
    assert store.lineage(kept) == [row, reply]
    assert store.forget("terminal", trick, trick).messages == 1
    assert rows(url, "SELECT count(*) FROM message") == [(3,)]
