"""`chatbot run` as a process: killed at any moment it loses and doubles nothing; told to stop, it finishes and ends.

The platform is the one of `files_platform`, found as any other package's adapter is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import files_platform
import pytest
import yaml
from running import command, rows, run

ROOT = Path(__file__).resolve().parent.parent
CHATS = 5
PATIENCE_S = 60.0
SECRET = "0123456789:not-a-real-token"


class Bot:
    """A process of `chatbot run files`, and the folder that is its platform."""

    def __init__(self, home: Path, keyed: bool, seconds: float) -> None:
        self.platform = home / "platform"
        self.log = home / "log"
        (self.platform / "in").mkdir(parents=True)
        settings = {"folder": str(self.platform), "keyed": keyed, "seconds": seconds}
        config = {
            "chat": {"model": "echo"},
            "run": {"adapters": ["files"], "drain_seconds": 20},
            "limits": {"user_per_minute": 0, "chat_per_minute": 0},
            "platforms": {"files": settings},
        }
        (home / "config.yaml").write_text(yaml.safe_dump(config))
        files_platform.install(home / "package")
        path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", home / "package")))
        self.env = {**os.environ, "PYTHONPATH": path, "TELEGRAM_BOT_TOKEN": SECRET}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """A process that has begun to take messages."""
        ready = self.platform / "ready"
        ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command("run"), env=self.env, stdin=subprocess.DEVNULL, stderr=log)
        self.wait(lambda: ready.exists())
        return self.process

    def say(self, count: int, start: int = 0) -> set[str]:
        """Let `count` messages arrive, chat by chat; their names."""
        names = [f"c{number % CHATS}-{number:04}" for number in range(start, start + count)]
        for name in names:
            draft = self.platform / f".{name}"
            draft.write_text(f"say {name}")
            draft.rename(self.platform / "in" / name)
        return set(names)

    def out(self) -> list[str]:
        """The names of the messages answered, in the order of their answers."""
        file = self.platform / "out"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds; the process must live on meanwhile."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def wait_for_answers(self, count: int) -> None:
        """Until so many are out."""
        self.wait(lambda: len(self.out()) >= count)


@pytest.fixture
def bot(home: Path, request: pytest.FixtureRequest) -> Iterator[Bot]:
    """A bot that is not running yet: (keyed, seconds a part takes)."""
    made = Bot(home, *request.param)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def in_order(names: list[str]) -> bool:
    """Whether the answers of each chat came in the order of its messages."""
    return all(
        [n for n in names if n.startswith(f"c{chat}-")] == sorted(n for n in names if n.startswith(f"c{chat}-"))
        for chat in range(CHATS)
    )


@pytest.mark.parametrize("bot", [(True, 0.02), (False, 0.02)], indirect=True, ids=["keyed", "keyless"])
def test_kill_nine_loses_nothing_and_doubles_nothing(bot: Bot, home: Path) -> None:
    """Killed in the middle of work, again and again: each message is answered once and in order.

    Where a platform has no key, a reply cut off in the call may be lost; then its row says so.
    """
    said: set[str] = set()
    for start in (0, 40):
        process = bot.start()
        said |= bot.say(40, start)
        bot.wait_for_answers(len(bot.out()) + 7)
        process.send_signal(signal.SIGKILL)
        process.wait()

    bot.start()
    states = "SELECT count(*) FROM inbox WHERE state IN ('received', 'pending', 'sending')"
    bot.wait(lambda: not list((bot.platform / "in").iterdir()) and rows(home, states) == [(0,)])

    out = bot.out()
    unknown = rows(home, "SELECT count(*) FROM inbox WHERE state = 'unknown'")[0][0]
    assert len(out) == len(set(out))
    assert len(said) - len(out) <= (0 if bot_is_keyed(bot) else unknown)
    assert unknown <= 2 * CHATS
    assert in_order(out)


def bot_is_keyed(bot: Bot) -> bool:
    """Whether its platform drops what it has already."""
    return bool(yaml.safe_load((bot.platform.parent / "config.yaml").read_text())["platforms"]["files"]["keyed"])


@pytest.mark.parametrize("bot", [(False, 0.05)], indirect=True)
def test_sigterm_drains(bot: Bot, home: Path) -> None:
    """What has arrived is answered, nothing new taken, the exit code 0, and in the log neither text nor token."""
    process = bot.start()
    said = bot.say(20)
    bot.wait(lambda: not list((bot.platform / "in").iterdir()))

    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    late = bot.say(1, 20)

    assert process.wait(PATIENCE_S) == 0
    assert set(bot.out()) == said
    assert {file.name for file in (bot.platform / "in").iterdir()} == late
    assert rows(home, "SELECT DISTINCT state FROM inbox") == [("sent",)]
    assert rows(home, "SELECT count(*) FROM inbox WHERE envelope IS NOT NULL OR reply IS NOT NULL") == [(0,)]
    log = bot.log.read_text()
    assert "files: starts" in log
    assert "say c" not in log
    assert SECRET not in log


@pytest.mark.parametrize("bot", [(False, 30.0)], indirect=True)
def test_a_second_signal_does_not_wait(bot: Bot, home: Path) -> None:
    """Who is in a hurry says so twice; what was not finished waits for the next start."""
    process = bot.start()
    bot.say(1)
    sending = "SELECT state FROM inbox"
    bot.wait(lambda: rows(home, sending) == [("sending",)])

    process.send_signal(signal.SIGINT)
    bot.wait(lambda: "stopping" in bot.log.read_text())
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 0
    assert rows(home, sending) == [("sending",)]


def test_what_cannot_run_is_refused_before_anything_is_opened(home: Path) -> None:
    """No name, a name that is unknown, a setting that makes no sense: one line, exit code 2, no database."""
    for arguments, said in (
        ((), "nothing to run"),
        (("telegraph",), "'telegraph'; known: discord, telegram, terminal"),
    ):
        done = run("run", *arguments)

        assert (done.code, said in done.complaint) == (2, True), done
    assert not (home / "chatbot.db").exists()
