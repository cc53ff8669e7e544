"""The line before a SQLite file: first come, first served, and nobody who is dead or asleep holds it up for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from talking import KEY, ON_SQLITE, said

from chatbot.store import ConversationStore
from chatbot.writers import WritersQueue

ROOT = Path(__file__).resolve().parents[2]
# Says "waits" when it stands in line behind somebody and "writes" when it is its turn; ends it when it is told to.
WRITER = """
import sys
from pathlib import Path
from chatbot import writers
pause, told = writers.time.sleep, []
def sleep(seconds):
    if not told:
        told.append(print("waits", flush=True))
    pause(seconds)
writers.time.sleep = sleep
with writers.WritersQueue(Path(sys.argv[1]), 600.0).turn():
    print("writes", flush=True)
    with open(sys.argv[1] + ".order", "a") as order:
        order.write(sys.stdin.readline())
"""


@contextmanager
def another(file: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has asked for its turn."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WRITER, str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str]) -> str:
    """The next thing that it says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], name: str) -> None:
    """Let it write its name at its turn, and be done."""
    assert process.stdin is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()


def test_who_came_first_writes_first(tmp_path: Path) -> None:
    """Two wait for a third in the order in which they came; who has written and comes again at once is the last."""
    file = tmp_path / "line"
    queue = WritersQueue(file, 600.0)
    with ExitStack() as others:
        with queue.turn():
            for name in ("first", "second"):
                process = others.enter_context(another(file))
                assert heard(process) == "waits"
                tell(process, name)

        with queue.turn():
            order = Path(f"{file}.order").read_text().split()

    assert order == ["first", "second"]
    queue.close()


def test_the_dead_hold_nobody_up(tmp_path: Path) -> None:
    """SIGKILL to who writes lets the next one in."""
    file = tmp_path / "line"
    with another(file) as writing:
        assert heard(writing) == "writes"
        with another(file) as waiting:
            assert heard(waiting) == "waits"
            writing.send_signal(signal.SIGKILL)

            assert heard(waiting) == "writes"


@ON_SQLITE
def test_a_store_stands_in_line(store: ConversationStore, url: str, tmp_path: Path) -> None:
    """Another process waits for the store's transaction, and has its turn when that is over."""
    with ExitStack() as others:
        with store._writing():
            process = others.enter_context(another(tmp_path / "chatbot.db-queue"))
            assert heard(process) == "waits"

        assert heard(process) == "writes"


@ON_SQLITE
def test_who_stands_still_is_passed_by(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stopped in the middle of its turn, but holds no lock of the database, costs patience only."""
    monkeypatch.setattr("chatbot.records.BUSY_TIMEOUT_S", 0.05)
    store = ConversationStore(url, KEY)
    with another(tmp_path / "chatbot.db-queue") as writing:
        assert heard(writing) == "writes"

        assert store.record_message(said("hi", 1)).fresh
    store.close()
