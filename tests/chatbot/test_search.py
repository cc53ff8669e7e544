"""What `chatbot logs` finds: by place, time, person, rating and words, on both databases, indexed yet or not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from talking import KEY, NOON, ON_SQLITE, rows, said, talk

from chatbot import schema, textindex
from chatbot.search import PSEUDONYM_DIGITS, Found, Wanted
from chatbot.store import ConversationStore


def texts(store: ConversationStore, *words: str, limit: int = 99, **wanted: object) -> list[str]:
    """The texts found, in their order."""
    return [found.text for found in store.search(Wanted(words=words, **wanted), limit)]  # type: ignore[arg-type]


@pytest.fixture
def busy(store: ConversationStore) -> ConversationStore:
    """A store with talk on two platforms."""
    talk(store, "Where is lunch?", "In the kitchen", chat="home")
    talk(store, "今天想吃什么？", "我想吃面条", chat="c", platform="telegram")
    store.record_message(said("soup for lunch, 100% hot", 90, "c", "telegram", sender="you"))
    return store


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["lunch"], ["Where is lunch?", "soup for lunch, 100% hot"]),
        (["LUNCH", "soup"], ["soup for lunch, 100% hot"]),
        (["unc"], ["Where is lunch?", "soup for lunch, 100% hot"]),
        (["is", "lunch"], ["Where is lunch?"]),
        (["想吃"], ["今天想吃什么？", "我想吃面条"]),
        (["想吃什么"], ["今天想吃什么？"]),
        (["面条"], ["我想吃面条"]),
        (["面"], ["我想吃面条"]),
        (["100%"], ["soup for lunch, 100% hot"]),
        (["%"], ["soup for lunch, 100% hot"]),
        (["l%ch"], []),
        (["___"], []),
        (['"lunch'], []),
        (["lunch' OR 1=1 --"], []),
        (["lunch*"], []),
        (["NOT", "lunch"], []),
        (["a\0b\ud83d"], []),
    ],
)
def test_words_are_found(busy: ConversationStore, words: list[str], found: list[str]) -> None:
    """Every word must be in the text, in any case, inside of others too; nothing in a word is an operator."""
    assert texts(busy, *words) == found


def test_places_people_and_times(busy: ConversationStore) -> None:
    """Each condition narrows; names, pseudonyms cut short, and with the platform its own ids are understood."""
    pseudonym = busy.search(Wanted(platform="telegram"), 1)[0].person
    chat = busy.search(Wanted(platform="telegram"), 1)[0].chat
    assert pseudonym is not None

    assert texts(busy, chat="home") == ["Where is lunch?", "In the kitchen"]
    assert texts(busy, chat=chat, person=pseudonym[:6]) == ["soup for lunch, 100% hot"]
    assert texts(busy, platform="telegram", chat="c", person="me") == ["今天想吃什么？", "我想吃面条"]
    assert texts(busy, person="me") == texts(busy, person="%") == texts(busy, platform="discord") == []
    assert texts(busy, since=NOON, until=NOON + timedelta(seconds=1)) == [
        "Where is lunch?",
        "今天想吃什么？",
        "soup for lunch, 100% hot",
    ]
    assert texts(busy, until=NOON) == []


def test_ratings_and_corrections(store: ConversationStore) -> None:
    """Replies that were liked, disliked or corrected; what was found says so."""
    ids = talk(store, "hi", "hello", "how?", "well")
    store.rate("terminal", "default", "me", 1)
    store.rate("terminal", "default", "you", 1)
    store.teach("terminal", "default", "me", "fine")
    store.rate_reply("terminal", "default", "me", ids[1], -1)

    assert texts(store, rating="good") == texts(store, rating="taught") == ["well"]
    (found,) = store.search(Wanted(rating="good"), 9)
    assert replace(found, at=NOON) == Found(
        ids[3], NOON, "terminal", "default", None, "bot", "well", "m1", rating=2, taught="fine"
    )
    assert texts(store, rating="bad") == ["hello"]


def test_the_latest_are_found_oldest_first(store: ConversationStore) -> None:
    """A limit keeps the newest."""
    talk(store, "a", "b", "c", "d")

    assert texts(store, limit=3) == ["b", "c", "d"]


def test_edited_and_erased_texts(busy: ConversationStore) -> None:
    """After a search has indexed them, an edit is found by its new words only, and an erased text not at all."""
    assert texts(busy, "lunch") != []
    busy.edit(said("dinner for two", 90, "c", "telegram", sender="you"))
    assert (texts(busy, "lunch"), texts(busy, "dinner")) == (["Where is lunch?"], ["dinner for two"])

    busy.forget("telegram", "you")

    assert texts(busy, "dinner") == []
    assert texts(busy, "lunch") == ["Where is lunch?"]
    assert texts(busy, platform="telegram") == ["今天想吃什么？", "我想吃面条"]


@ON_SQLITE
def test_an_erased_text_leaves_no_piece_in_the_index(busy: ConversationStore, url: str, tmp_path: Path) -> None:
    """FTS5 keeps the pieces of deleted texts for a while, so an erasure empties the index; searching fills it."""
    busy.record_message(said("zyzzyva", 91, "c", "telegram", sender="you"))
    texts(busy, "zyzzyva")
    assert b"zzy" in b"".join(file.read_bytes() for file in tmp_path.iterdir())

    busy.forget("telegram", "you", "c", "91")

    assert b"zzy" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert rows(url, "SELECT count(*) FROM message_text_docsize") == [(0,)]
    assert texts(busy, "lunch") == ["Where is lunch?", "soup for lunch, 100% hot"]
    assert schema.check(url) == []


@ON_SQLITE
def test_what_is_not_indexed_is_found(busy: ConversationStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the index cannot be filled, or lags behind, the texts themselves are read."""
    monkeypatch.setattr(textindex, "FILL_ROWS", 2)
    monkeypatch.setattr("chatbot.search._FILL_S", 0.0)  # no time to index anything
    assert texts(busy, "lunch") == ["Where is lunch?", "soup for lunch, 100% hot"]
    assert rows(url, "SELECT count(*) FROM message_text_docsize") == [(0,)]
    monkeypatch.setattr("chatbot.search._FILL_S", 600.0)
    texts(busy, "lunch")
    assert rows(url, "SELECT max(id) FROM message_text_docsize") == rows(url, "SELECT max(id) FROM message")
    busy.record_message(said("more lunch", 92))
    file = url.removeprefix("sqlite:///")
    reading = ConversationStore(f"sqlite:///file:{file}?mode=ro&uri=true", KEY)

    assert texts(reading, "lunch") == ["Where is lunch?", "soup for lunch, 100% hot", "more lunch"]
    reading.close()


def test_pseudonyms_are_not_ids(busy: ConversationStore) -> None:
    """What is shown of people and messengers' chats is the beginning of a keyed hash."""
    for found in busy.search(Wanted(platform="telegram"), 9):
        assert len(found.chat) == PSEUDONYM_DIGITS
        assert found.person is None or len(found.person) == PSEUDONYM_DIGITS
