"""Writers killed with SIGKILL, over and over, and what of their work is there afterwards. Out: an `Outcome`.

Each writer is a chat of a messenger: it has a message accepted, notes that it may be forgotten on the platform's side,
answers it and sends the reply, as `adapters.lanes` does on a platform that cannot tell a reply sent twice. What is
noted, and what is sent, goes to files of its own by one write each, which a kill cannot take back.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from chatbot import schema
from chatbot import tables as t
from chatbot.database import open_engine
from chatbot.messages import Message, Reply
from chatbot.store import ConversationStore

PLATFORM = "bench"
KEY = b"k" * 32
_PATIENCE_S = 300.0
_MORE = 8  # messages acknowledged between two kills, at least


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was acknowledged, what of it was lost, answered twice or cut off in the call, and what `db check` said."""

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    unknown: int
    problems: tuple[str, ...]


def kill_writers(url: str, folder: Path, *, kills: int, processes: int, writers: int, seed: int = 1) -> Outcome:
    """Let `writers` threads in `processes` processes work, kill all, check, and begin again, `kills` times.

    A kill comes soon after some messages more were acknowledged, whatever the others are at.
    """
    chance = random.Random(seed)
    problems: list[str] = []
    for _ in range(kills):
        before = _acknowledged(folder)
        children = [_fork(url, folder, group, drain=False) for group in _groups(processes, writers)]
        end = time.monotonic() + _PATIENCE_S
        while _acknowledged(folder) < before + min(writers, _MORE) and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.05))  # so that the kill meets any line of their work
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        problems += schema.check(url)
    for child in [_fork(url, folder, group, drain=True) for group in _groups(processes, writers)]:
        if os.waitpid(child, 0)[1] != 0:
            problems.append("what the last kill left could not be finished")
    return _outcome(url, folder, kills, problems)


def _groups(processes: int, writers: int) -> Iterator[range]:
    share = writers // processes
    return (range(first, first + share) for first in range(0, share * processes, share))


def _acknowledged(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("noted-*"))


def _fork(url: str, folder: Path, chats: range, *, drain: bool) -> int:
    """A process that serves some chats until it is killed, or until nothing waits any more; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        store = ConversationStore(url, KEY)
        threads = [_Chat(store, folder, f"c{number}", drain) for number in chats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = 0 if all(thread.done for thread in threads) else 1
    finally:
        os._exit(code)


class _Chat(threading.Thread):
    """One chat and its platform, which delivers each message until it is noted."""

    def __init__(self, store: ConversationStore, folder: Path, name: str, drain: bool) -> None:
        super().__init__(daemon=True)
        self._store, self._name, self._drain = store, name, drain
        self._noted = folder / f"noted-{name}"
        self._out = folder / f"out-{name}"
        self.done = False

    def run(self) -> None:
        """What waits from before the kill, then new messages."""
        for waiting in self._store.waiting(PLATFORM):
            if waiting.message.chat == self._name:
                if waiting.state == "sending":
                    self._store.delivering(waiting.message, "unknown")
                elif waiting.reply is None:
                    self._answer(waiting.message)
                else:
                    self._send(waiting.message)
        number = int((_lines(self._noted) or ["-1"])[-1])
        while not self._drain:
            number += 1
            message = Message(PLATFORM, self._name, "me", f"line {number}", str(number), datetime.now(UTC))
            fresh = self._store.accept(message)
            _append(self._noted, str(number))
            if fresh:
                self._answer(message)
        self.done = True

    def _answer(self, message: Message) -> None:
        stored = self._store.record_message(message)
        if stored.fresh or self._store.stored_reply(stored.id) is None:
            self._store.history(stored.id, 6)
            self._store.record_reply(stored.id, Reply(f"re {message.text}", "echo", "echo"))
        self._send(message)

    def _send(self, message: Message) -> None:
        self._store.delivering(message, "sending")
        _append(self._out, message.message_id)
        self._store.delivering(message, "sent", [message.message_id])


def _append(file: Path, line: str) -> None:
    descriptor = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def _outcome(url: str, folder: Path, kills: int, problems: list[str]) -> Outcome:
    """Compare what the platforms noted and got with what the database holds."""
    store, engine = ConversationStore(url, KEY), open_engine(url)
    keys = {store._chat_key(PLATFORM, name): name for name in _names(folder)}
    query = select(t.chat.c.key, t.inbox.c.platform_message_id, t.inbox.c.state).join_from(t.inbox, t.chat)
    with engine.connect() as connection:
        states = {(keys[key], number): state for key, number, state in connection.execute(query)}
        replies = connection.scalars(select(t.message.c.reply_to_id).where(t.message.c.role == "bot")).all()
    engine.dispose()
    store.close()
    noted = {(name, number) for name in _names(folder) for number in _lines(folder / f"noted-{name}")}
    out = Counter((name, number) for name in _names(folder) for number in _lines(folder / f"out-{name}"))
    unknown = {place for place, state in states.items() if state == "unknown"}
    finished = {place for place, state in states.items() if state == "sent" and out[place]} | unknown
    twice = sum(count - 1 for count in out.values()) + len(replies) - len(set(replies))
    return Outcome(kills, len(noted), len(noted - finished), twice, len(unknown), tuple(problems))


def _names(folder: Path) -> list[str]:
    return sorted(file.name.removeprefix("noted-") for file in folder.glob("noted-*"))
