"""A store moved between databases: every row arrives, the new place goes on, and nothing is written over."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres_server import Server
from sqlalchemy import select
from talking import KEY, said, store_dialogue, talk

from chatbot import schema
from chatbot.database import open_engine
from chatbot.errors import DatabaseError, UsageError
from chatbot.messages import Reply
from chatbot.search import Wanted
from chatbot.store import ConversationStore
from chatbot.tables import metadata
from chatbot.transfer import copy_database


@pytest.fixture(params=["to a file", "to a server"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The url of a place where there is nothing yet."""
    if request.param == "to a file":
        return f"sqlite:///{tmp_path}/new/place.db"
    server: Server = request.getfixturevalue("postgres")
    return server.empty()


def everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
                for table in metadata.sorted_tables
            }
    finally:
        engine.dispose()


@pytest.fixture
def full(store: ConversationStore) -> ConversationStore:
    """A store with something in most tables."""
    ids = talk(store, "hi", "hello 你好 👋🏽", "how?", "well", chat="c", platform="telegram")
    store.rate("telegram", "c", "me", 1)
    store.teach("telegram", "c", "me", "fine")
    store.consent("telegram", "c", "me", True, "1", "/consent yes")
    store.accept(said("waits", 77, "c", "telegram"))
    store.record_model("m2", parent=None, dataset=store.create_dataset("d", "0" * 64, ids), metrics={"x": 0.5})
    store_dialogue(store, store.record_import("a.jsonl", "mine"), ["a", "b", "c"], "d1")
    store.forget("telegram", "me", "c", "0")
    return store


def test_every_row_arrives(full: ConversationStore, url: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tables hold the same afterwards, whichever way round, batch by batch; the numbers told are the rows."""
    monkeypatch.setattr("chatbot.transfer._BATCH_ROWS", 2)

    copied = copy_database(url, target)

    assert everything(target) == everything(url)
    assert copied == {name: len(rows) for name, rows in everything(url).items()}
    assert schema.check(target) == []


def test_the_new_place_goes_on(full: ConversationStore, url: str, target: str) -> None:
    """What waited is answered there, new rows get new numbers, and the talk is searched and remembered."""
    before = len(everything(url)["message"])
    copy_database(url, target)

    store = ConversationStore(target, KEY)
    (waiting,) = store.waiting("telegram")
    message = store.record_message(waiting.message)
    store.record_reply(message.id, Reply("soup", "m1", "seq2seq"))

    assert message.id > before
    assert store.history(message.id, 6) == ["how?", "fine"]
    assert [found.text for found in store.search(Wanted(words=("waits",)), 9)] == ["waits"]
    store.close()


def test_nothing_is_written_over(full: ConversationStore, url: str, target: str) -> None:
    """A target that holds a row is refused and stays as it was."""
    schema.upgrade(target)
    store = ConversationStore(target, KEY)
    store.record_message(said("mine", 1))
    before = everything(target)

    with pytest.raises(UsageError, match="holds rows already: name an empty database"):
        copy_database(url, target)

    assert everything(target) == before
    store.close()


def test_a_copy_that_fails_leaves_nothing(
    full: ConversationStore, url: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half way there is no half: the target is still empty, and the next try succeeds."""

    def fail(*_: object) -> None:
        raise DatabaseError("the plug was pulled")

    with monkeypatch.context() as patch:
        patch.setattr("chatbot.transfer._renumber", fail)
        with pytest.raises(DatabaseError, match="plug"):
            copy_database(url, target)

    assert {name for name, rows in everything(target).items() if rows} == set()
    assert copy_database(url, target)["message"] == len(everything(url)["message"])


@pytest.mark.parametrize("source", ["sqlite:////nowhere/chatbot.db", "sqlite://", "no url"])
def test_what_is_not_there_is_not_copied(source: str, tmp_path: Path) -> None:
    """No such file, a database in memory, no url at all: one line, and no file is made."""
    with pytest.raises(UsageError):
        copy_database(source, f"sqlite:///{tmp_path}/new.db")

    assert list(tmp_path.glob("*.db")) == []
