"""Small talk for tests of the store: messages recorded with as few words as a test can do with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from chatbot.database import open_engine
from chatbot.importers.records import Row
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore

KEY = b"k" * 32
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)

# For tests that look into the file, or at what only SQLite does.
ON_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def said(text: str, number: int, chat: str = "default", platform: str = "terminal", **more: Any) -> Message:
    """A message with the platform id `number`."""
    return Message(platform, chat, more.pop("sender", "me"), text, str(number), NOON, **more)


def talk(store: ConversationStore, *lines: str, chat: str = "default", **more: Any) -> list[int]:
    """Record lines in turn as message and reply; the row ids. An empty line is a reply that never came."""
    ids: list[int] = []
    start = len(store.my_data(more.get("platform", "terminal"), more.get("sender", "me")))
    for place, line in enumerate(lines):
        if place % 2 == 0:
            ids.append(store.record_message(said(line, start * 100 + place, chat, **more)).id)
        elif line:
            ids.append(store.record_reply(ids[-1], Reply(line, "m1", "seq2seq")))
    return ids


def store_dialogue(store: ConversationStore, batch: int, turns: Sequence[str], dialogue: str) -> None:
    """Store the turns of two people who take turns, as the import of a dialogue file does."""
    found = [
        Row(f"{batch}:{dialogue}", str(place % 2), turn, None, str(place), str(place - 1) if place else None, not place)
        for place, turn in enumerate(turns)
    ]
    store.add_imported(batch, "import", None, found)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What is really in the file."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def change(url: str, statement: str) -> None:
    """Something in the file that no call of ours does."""
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
