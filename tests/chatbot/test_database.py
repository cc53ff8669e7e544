"""Kills, locks, full disks and damage: what was acknowledged is there, and the error is one clear line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from postgres_server import Server
from sqlalchemy import event, insert, select
from sqlalchemy.pool import Pool
from talking import KEY, NOON, ON_SQLITE, rows, said, talk

from chatbot import schema
from chatbot import tables as t
from chatbot.database import open_engine, writer
from chatbot.errors import DatabaseError
from chatbot.store import ConversationStore

WRITER = """
import sys
from datetime import UTC, datetime
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = ConversationStore(url, b"k" * 32)
for number in range(count):
    message = Message("terminal", name, "me", f"line {number}", f"{number}", datetime.now(UTC))
    stored = store.record_message(message)
    reply = store.record_reply(stored.id, Reply("yes", "echo", "echo"))
    print(stored.id, reply, flush=True)
"""


def start_writer(url: str, name: str, count: int) -> subprocess.Popen[str]:
    """A process that records exchanges and prints the ids of each when its calls have returned."""
    command = [sys.executable, "-c", WRITER, url, name, str(count)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def test_killed_process_loses_nothing_acknowledged(url: str) -> None:
    """After SIGKILL every row whose id was printed is there, and the database is sound."""
    with start_writer(url, "default", 10**6) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(53)]
        process.send_signal(signal.SIGKILL)
        # What stood in the pipe was acknowledged too; a line cut short was not.
        acknowledged += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]

    ids = {int(word) for line in acknowledged for word in line.split()}
    assert len(ids) >= 2 * 53
    assert ids <= {row[0] for row in rows(url, "SELECT id FROM message")}
    assert schema.check(url) == []


def test_two_processes_write_at_once(url: str) -> None:
    """Two writers and a reader in this process meet no lock, and every row is there."""
    store = ConversationStore(url, KEY)
    with start_writer(url, "one", 61) as one, start_writer(url, "two", 61) as two:
        while one.poll() is None or two.poll() is None:
            store.record_message(said("hi", 1))
            store.stats()
        for process in (one, two):
            _, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, "")

    assert store.stats().messages == {"terminal": 2 * 61 + 1}
    store.close()


@ON_SQLITE
@pytest.mark.parametrize("call", ["record_message", "history"])
def test_damaged_file_is_one_clear_line(store: ConversationStore, url: str, call: str, tmp_path: Path) -> None:
    """Overwritten pages give a DatabaseError that names the file and the way out."""
    store.close()
    file = tmp_path / "chatbot.db"
    file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * 4096 * 60)
    calls: dict[str, Callable[[], object]] = {
        "record_message": lambda: store.record_message(said("hi", 1)),
        "history": lambda: store.history(1, 3),
    }

    with pytest.raises(DatabaseError, match=r"chatbot\.db is damaged: see `chatbot db check`"):
        calls[call]()


@ON_SQLITE
def test_read_only_database_is_one_clear_line(url: str, tmp_path: Path) -> None:
    """A write gives a DatabaseError with the way out; reading goes on."""
    first = ConversationStore(url, KEY)
    ids = talk(first, "hi", "hello", "next")
    store = ConversationStore(f"sqlite:///file:{tmp_path}/chatbot.db?mode=ro&uri=true", KEY)

    with pytest.raises(DatabaseError, match="is read-only: make it and its folder writable") as caught:
        store.record_message(said("words nobody should find in a log", 90))

    assert "\n" not in str(caught.value)
    assert "words" not in f"{caught.value} {caught.value.__cause__}"
    assert store.history(ids[-1], 3) == ["hi", "hello"]
    store.close()
    first.close()


@ON_SQLITE
def test_full_disk_is_one_clear_line(url: str) -> None:
    """With no page left a write gives a DatabaseError; what was there stays, and goes on when there is space."""

    def limit(connection: Any, _entry: Any) -> None:
        connection.execute("PRAGMA max_page_count=60")

    store = ConversationStore(url, KEY)
    event.listen(Pool, "connect", limit)
    try:
        store.record_message(said("small", 1))
        with pytest.raises(DatabaseError, match=r"no space left for the database .*: free some"):
            store.record_message(said("x" * 10**6, 2))
        assert not store.record_message(said("small", 1)).fresh
    finally:
        event.remove(Pool, "connect", limit)
        store.close()

    store = ConversationStore(url, KEY)
    assert store.record_message(said("x" * 10**6, 2)).fresh
    store.close()
    assert schema.check(url) == []


@ON_SQLITE
def test_locked_database_is_one_clear_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that never lets go gives a DatabaseError that says so, after the patience is over."""
    monkeypatch.setattr("chatbot.database.BUSY_TIMEOUT_S", 0.05)
    holder = open_engine(url)
    store = ConversationStore(url, KEY)
    with holder.connect() as connection:
        connection.execute(insert(t.import_batch).values(source="x", created_at=NOON))

        with pytest.raises(DatabaseError, match=r"another program has kept .* locked"):
            store.record_message(said("hi", 1))

        assert store.latest_chat("terminal") is None
    holder.dispose()
    assert store.record_message(said("hi", 1)).fresh
    store.close()


@ON_SQLITE
def test_connections_are_set_up(store: ConversationStore) -> None:
    """Write-ahead log, full sync, foreign keys, overwriting of freed text, and five seconds of patience."""
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "busy_timeout": 30_000,
    }

    with store._engine.connect() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
        assert connection.scalar(select(t.message.c.id)) is None

    assert found == expected


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://me:secret@127.0.0.1:9/chatbot?password=secret", "does not answer: start it"),
        ("postgresql+psycopg://me@/chatbot?host=/nowhere", "does not answer: start it"),
    ],
)
def test_a_server_that_is_not_there_is_one_clear_line(url: str, wanted: str) -> None:
    """It names the database and the way out, in one line without the password."""
    store = ConversationStore(url, KEY)

    with pytest.raises(DatabaseError, match=wanted) as caught:
        store.record_message(said("hi", 1))

    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    store.close()


def test_what_a_server_refuses_is_one_clear_line(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such database, no tables, a writer that never lets go: what is wrong, and the way out."""
    with pytest.raises(DatabaseError, match="does not exist: make it with `createdb`"):
        schema.require_current(postgres.url("nobody_made_it"))
    empty = postgres.empty()
    store = ConversationStore(empty, KEY)
    with pytest.raises(DatabaseError, match="lacks a table: run `chatbot db upgrade`"):
        store.record_message(said("hi", 1))
    store.close()
    schema.upgrade(empty)
    monkeypatch.setattr("chatbot.database.BUSY_TIMEOUT_S", 0.05)
    store, holder = ConversationStore(empty, KEY), open_engine(empty)
    with writer(holder).begin(), pytest.raises(DatabaseError, match=r"another program has kept .* locked"):
        store.record_message(said("hi", 1))
    holder.dispose()
    assert store.record_message(said("hi", 1)).fresh
    store.close()


def test_a_server_that_restarts_is_found_again(postgres: Server) -> None:
    """Connections that the server has closed are replaced, and nobody notices."""
    with postgres.database() as url:
        store = ConversationStore(url, KEY)
        ids = talk(store, "hi", "hello", "next")
        postgres.administer("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%%'")

        assert store.history(ids[-1], 3) == ["hi", "hello"]
        assert store.record_message(said("more", 99)).fresh
        store.close()


def test_a_value_that_does_not_fit_is_not_told(postgres: Server) -> None:
    """PostgreSQL's details hold the values of a row; what we say of them is its first line alone."""
    with postgres.database() as url:
        store = ConversationStore(url, KEY)
        with pytest.raises(DatabaseError, match="too long") as caught:
            store.record_message(replace(said("hi", 1), message_id="secret" * 99))
        assert "secret" not in str(caught.value)
        store.close()
