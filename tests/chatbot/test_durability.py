"""What was acknowledged is there, whatever happens: kills, full disks, clocks, backups put back in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool
from talking import KEY, NOON, ON_SQLITE, rows, said, talk

from chatbot import schema
from chatbot.errors import DatabaseError, UsageError
from chatbot.messages import Reply
from chatbot.search import Wanted
from chatbot.store import ConversationStore
from chatbot.transfer import copy_database

ROOT = Path(__file__).resolve().parents[2]
KILLING = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from benchmarks.crash import kill_writers
outcome = kill_writers(sys.argv[1], Path(sys.argv[2]), kills=3, processes=2, writers=6)
print(json.dumps(asdict(outcome)))
"""


def test_kill_nine_loses_nothing_and_answers_nothing_twice(url: str, tmp_path: Path) -> None:
    """Six chats in two processes, killed three times: all that was acknowledged is answered, once, and all is sound.

    What was cut off in the call to a platform that knows no key is told as unknown, at most one a chat and kill.
    """
    notes = tmp_path / "notes"
    notes.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", KILLING, url, str(notes)], cwd=ROOT, capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["acknowledged"] >= 3 * 6
    assert {name: outcome[name] for name in ("lost", "doubled", "problems")} == {
        "lost": 0,
        "doubled": 0,
        "problems": [],
    }
    assert outcome["unknown"] <= 3 * 6


def test_a_clock_that_jumps_back_changes_no_order(store: ConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order is the order of arrival: history, last reply, latest consent and correction do not ask the clock."""
    talk(store, "one", "two", chat="c", platform="telegram")
    store.consent("telegram", "c", "me", True, "1", "/consent yes")
    store.teach("telegram", "c", "me", "two!")
    for name in ("store", "rights", "inbox", "learning"):
        monkeypatch.setattr(f"chatbot.{name}.now", lambda: NOON - timedelta(days=400))

    message = store.record_message(said("three", 50, "c", "telegram"))
    store.record_reply(message.id, Reply("four", "m1", "seq2seq"))
    store.teach("telegram", "c", "me", "four!")
    store.consent("telegram", "c", "me", False, "1", "/consent no")

    assert store.history(store.record_message(said("five", 51, "c", "telegram")).id, 9) == [
        "one",
        "two!",
        "three",
        "four!",
    ]
    pairs = store.learnable_pairs({"telegram": "consented"}, 6)
    assert (list(pairs), sum(pairs.left_out.values())) == ([], 2)
    # Two erasures in one moment of a clock that stands still are two erasures.
    store.record_message(said("yours", 52, "c", "telegram", sender="you"))
    assert store.forget("telegram", "me", "c").messages == 3
    assert store.forget("telegram", "you", "c").messages == 1


@contextmanager
def writing(store: ConversationStore) -> Iterator[list[int]]:
    """Messages recorded one after another by another thread; the ids of those that were acknowledged."""
    acknowledged: list[int] = []
    stop = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            number = 0
            while not stop.is_set():
                number += 1
                acknowledged.append(store.record_message(said(f"line {number}", number)).id)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        _wait_for(acknowledged, 7)
        yield acknowledged
    finally:
        stop.set()
        thread.join()
    assert errors == []


def _wait_for(acknowledged: list[int], more: int) -> None:
    enough = len(acknowledged) + more
    pause = threading.Event()
    for _ in range(6000):
        if len(acknowledged) >= enough:
            return
        pause.wait(0.01)
    raise AssertionError("nothing is written any more")


def test_a_copy_in_the_middle_of_writing_is_whole(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """A backup, or on a server a copy into a file, holds all that was acknowledged before it began, and is sound."""
    target = tmp_path / "copy.db"
    with writing(store) as acknowledged:
        before = list(acknowledged)
        if url.startswith("sqlite"):
            schema.backup(url, target)
        else:
            copy_database(url, f"sqlite:///{target}")
        _wait_for(acknowledged, 3)

    there = [row for (row,) in rows(f"sqlite:///{target}", "SELECT id FROM message ORDER BY id")]
    assert schema.check(f"sqlite:///{target}") == []
    assert set(before) <= set(there)
    assert there == list(range(1, len(there) + 1))


@ON_SQLITE
def test_a_backup_put_back_in_the_middle_of_writing(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """The writer goes on with what was restored; the file is sound, nothing older shows through, nothing is lost."""
    talk(store, "kept", "yes", chat="kitchen")
    target = tmp_path / "copy.db"
    schema.backup(url, target)

    with writing(store) as acknowledged:
        kept = schema.restore(url, target)
        _wait_for(acknowledged, 5)

    assert kept is not None
    assert schema.check(url) == schema.check(f"sqlite:///{kept}") == []
    texts = [text for (text,) in rows(url, "SELECT text FROM message ORDER BY id")]
    assert texts[:2] == ["kept", "yes"]
    assert "line 1" not in texts
    assert len(texts) >= 2 + 4
    assert ("line 1",) in rows(f"sqlite:///{kept}", "SELECT text FROM message")
    assert rows(url, "PRAGMA journal_mode") == [("wal",)]


@ON_SQLITE
def test_only_a_sound_backup_is_put_back(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """A file that is missing, another program's, or damaged changes nothing."""
    talk(store, "kept", "yes")
    target = tmp_path / "copy.db"
    schema.backup(url, target)
    target.write_bytes(target.read_bytes()[: 4096 * 9] + b"\xa5" * 4096 * 40)
    other = tmp_path / "other.db"
    other.write_text("no database at all, but a text that is long enough " * 99)

    for source, error in ((tmp_path / "none.db", UsageError), (target, DatabaseError), (other, DatabaseError)):
        with pytest.raises(error):
            schema.restore(url, source)

    assert rows(url, "SELECT text FROM message ORDER BY id") == [("kept",), ("yes",)]
    assert list(tmp_path.glob("*.replaced-*")) == []


@ON_SQLITE
def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_kept(store: ConversationStore, url: str) -> None:
    """A message that cannot be committed is refused, and taken when there is space; searching goes on meanwhile."""
    for number in range(40):
        store.record_message(said(f"some lunch {number}", number))
    store.close()
    pages = rows(url, "PRAGMA page_count")[0][0]

    def limit(connection: Any, _entry: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(Pool, "connect", limit)
    try:
        full = ConversationStore(url, KEY)
        with pytest.raises(DatabaseError, match="no space left"):
            full.accept(said("x" * 10**5, 77, "c", "telegram"))
        assert full.waiting("telegram") == []
        assert len(full.search(Wanted(words=("lunch",)), 99)) == 40
        full.close()
    finally:
        event.remove(Pool, "connect", limit)

    store = ConversationStore(url, KEY)
    assert store.accept(said("x" * 10**5, 77, "c", "telegram"))
    store.close()
    assert schema.check(url) == []
