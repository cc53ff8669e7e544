"""Tests of the store run on both databases: whatever asks for `url` or `store` here runs on SQLite and PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> Iterator[str]:
    """The url of a new database at the head revision."""
    if request.param == "sqlite":
        yield f"sqlite:///{shutil.copy(empty_database, tmp_path / 'chatbot.db')}"
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as made:
        yield made
