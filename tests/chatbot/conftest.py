"""A store on a SQLite file of its own for every test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from talking import KEY

from chatbot import schema
from chatbot.store import ConversationStore


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the head revision, made once, for copying."""
    file = tmp_path_factory.mktemp("database") / "empty.db"
    schema.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def url(tmp_path: Path, empty_database: Path) -> str:
    """The url of a new SQLite file."""
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'chatbot.db')}"


@pytest.fixture
def store(url: str) -> Iterator[ConversationStore]:
    """A store on that file."""
    opened = ConversationStore(url, KEY)
    yield opened
    opened.close()
