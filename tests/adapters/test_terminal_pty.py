"""The terminal chat as a person sees it: a real pseudo-terminal, its screen read by a terminal emulator."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

TESTS = Path(__file__).parent.parent
ROWS, COLUMNS = 23, 61
TIMEOUT_S = 60


class Chat:
    """A chat in a terminal. `send` types, `see` waits for something to stand on the screen.

    With `after` it is the job of a shell, which does that when the chat is suspended.
    """

    def __init__(self, *arguments: str, after: str = "", **environment: str) -> None:
        self.raw = ""
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self.screen)
        command = [sys.executable, str(TESTS / "terminal_main.py"), *arguments]
        clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "LC_ALL")}
        self.process = pexpect.spawn(
            "sh",
            ["-c", f"set -m; {shlex.join(command)}; {after}" if after else f"exec {shlex.join(command)}"],
            env={**clean, "TERM": "xterm", "PYTHONPATH": f"{TESTS.parent}:{TESTS}", **environment},
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )
        self.process.delaybeforesend = None
        self.settings = termios.tcgetattr(self.process.child_fd)

    def send(self, text: str) -> None:
        """Type."""
        self.process.send(text)

    def see(self, text: str) -> None:
        """Read output until `text` stands on the screen."""
        self.until(lambda: text in self.text, text)

    def prompt(self) -> None:
        """Wait for an empty prompt."""
        self.until(lambda: self.line == ">", "an empty prompt")

    def wheel(self) -> None:
        """Wait for the sign that a reply takes its time."""
        self.until(lambda: self.line in {"|", "/", "-", "\\"}, "the wheel")

    def until(self, condition: Callable[[], bool], wanted: str) -> None:
        """Read output until the condition holds; what the screen shows instead is the failure's text."""
        while not condition():
            try:
                new = self.process.read_nonblocking(4096, timeout=TIMEOUT_S)
            except (pexpect.TIMEOUT, pexpect.EOF):
                pytest.fail(f"waited for {wanted!r} on the screen:\n{self.text}")
            self.raw += new
            self._stream.feed(new)

    @property
    def text(self) -> str:
        """The screen, wide characters as they are, without empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def line(self) -> str:
        """The line that the cursor is in."""
        return self.screen.display[self.screen.cursor.y].rstrip()

    def ends(self) -> int | None:
        """Read to the end; the exit code, None if a signal killed the process."""
        self.raw += self.process.read()
        self.process.wait()
        return self.process.exitstatus


@pytest.fixture
def chat(request: pytest.FixtureRequest) -> Iterator[Chat]:
    """A chat at its first prompt; `with_spine` gives it a store and the commands that are the same everywhere."""
    opened = Chat(*getattr(request, "param", ()))
    opened.prompt()
    yield opened
    opened.process.close(force=True)


with_spine = pytest.mark.parametrize("chat", [("--spine",)], indirect=True, ids=["spine"])


def test_prompt_and_reply(chat: Chat) -> None:
    """A line entered is answered on the next one, and a prompt follows; the greeting came without its escapes."""
    chat.send("hi\r")
    chat.see("heard")
    chat.prompt()

    assert chat.text.splitlines() == ["welcome", "> hi", "heard hi", ">"]


def test_arrow_up_brings_the_last_line_back_in_the_next_chat(tmp_path: Path) -> None:
    """Typed lines are kept in a file that only its owner may read, and edited again later."""
    history = tmp_path / "state" / "history"
    for _ in range(2):
        chat = Chat("--history", str(history))
        chat.prompt()
        if history.stat().st_size:
            chat.send("\x1b[A")
            chat.see("> one two")
            chat.send("\x17six\r")
            chat.see("heard one six")
        else:
            chat.send("one two\r")
            chat.see("heard one two")
        chat.send("\x04")
        assert chat.ends() == 0

    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_history_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    """With no place for the history there is one line about it, and the chat goes on."""
    chat = Chat("--history", str(tmp_path))
    chat.see("typed lines are not kept")
    chat.send("hi\r")
    chat.see("heard hi")
    chat.send("\x04")

    assert chat.ends() == 0


def test_wide_characters_are_edited_as_one(chat: Chat) -> None:
    """Backspace takes a whole Chinese character or emoji, and the cursor stands where it should."""
    chat.send("你好吗🙂")
    chat.until(lambda: chat.screen.cursor.x == 10, "the cursor after eight columns of text")
    chat.send("\x7f\x7f\x1b[D的")
    chat.until(lambda: chat.screen.cursor.x == 6, "the cursor between two characters")
    chat.send("\r")

    chat.see("heard 你的好")


@with_spine
def test_ctrl_c_stops_a_reply(chat: Chat) -> None:
    """Ctrl-C during a reply: a wheel before, a note after, the line stored without a reply, the chat alive."""
    chat.send("slow\r")
    chat.wheel()
    chat.send("\x03")
    chat.see("Stopped")
    chat.send("hi\r")
    chat.see("heard hi")
    chat.send("/stats\r")
    chat.see("messages 2, replies 1")
    chat.send("\x04")

    assert chat.ends() == 0
    assert "heard slow" not in chat.raw


def test_ctrl_c_twice_leaves(chat: Chat) -> None:
    """At an empty prompt the first Ctrl-C says what the second does: leave with 130."""
    chat.send("\x03")
    chat.see("once more leaves")
    chat.send("\x03")

    assert chat.ends() == 130


def test_ctrl_c_during_a_reply_and_once_more_leaves(chat: Chat) -> None:
    """The second Ctrl-C counts wherever it comes."""
    chat.send("slow\r")
    chat.wheel()
    chat.send("\x03")
    chat.see("Stopped")
    chat.send("\x03")

    assert chat.ends() == 130


def test_ctrl_c_takes_back_what_is_typed(chat: Chat) -> None:
    """With something on the line, Ctrl-C gives an empty one, however often."""
    for number in range(3):
        chat.send(f"half a line {number}")
        chat.see(f"half a line {number}")
        chat.send("\x03")
        chat.prompt()
    chat.send("hi\r")

    chat.see("heard hi")


@pytest.mark.parametrize("words", ["\x04", "/quit\r", " exit \r", "Quit\r"])
def test_ways_to_leave(chat: Chat, words: str) -> None:
    """Ctrl-D and the words for leaving end with 0 and give the terminal back as it was."""
    chat.send(words)

    assert chat.ends() == 0
    assert chat.raw.rstrip().endswith("bye")
    assert termios.tcgetattr(chat.process.child_fd) == chat.settings


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("text", ["", "slow\r"])
def test_signals_leave_in_good_order(chat: Chat, number: signal.Signals, text: str) -> None:
    """SIGTERM and SIGHUP, at the prompt or during a reply, restore the terminal and leave."""
    chat.send(text)
    if text:
        chat.wheel()
    chat.process.kill(number)

    assert chat.ends() == 0
    assert chat.raw.rstrip().endswith("bye")
    assert termios.tcgetattr(chat.process.child_fd) == chat.settings


def test_resize_to_almost_nothing_and_back(chat: Chat) -> None:
    """A terminal of five columns and three rows breaks neither the prompt nor a reply under way."""
    chat.send("some words")
    chat.see("some words")
    for rows, columns in ((3, 5), (ROWS, COLUMNS)):
        chat.process.setwinsize(rows, columns)
        chat.screen.resize(rows, columns)
    chat.send("\x15slow\r")
    chat.wheel()
    chat.process.setwinsize(3, 5)
    chat.screen.resize(3, 5)
    chat.send("\x03")
    chat.see("es.")
    chat.process.setwinsize(ROWS, COLUMNS)
    chat.screen.resize(ROWS, COLUMNS)
    chat.send("hi\r")
    chat.see("heard hi")


@with_spine
def test_pasted_lines_are_one_message(chat: Chat) -> None:
    """Bracketed paste: nothing is sent before Enter, then all lines in one message, escapes in it made harmless."""
    chat.send("\x1b[200~one\ntwo\x1b]0;title\x07\nthree\x1b[201~")
    chat.see("three")
    assert "heard" not in chat.text
    chat.send("\r/stats\r")

    chat.see("messages 1,")
    assert "heard one\ntwo\nthree\n" in chat.text


def test_multi_reads_up_to_end(chat: Chat) -> None:
    """/multi gathers lines until /end and sends them as one message; Ctrl-C drops them."""
    chat.send("/multi\rdropped\r\x03")
    chat.prompt()
    chat.send("/multi\rone\r\rtwo\r/end\r")
    chat.see("heard one")

    assert "heard one\n\ntwo" in chat.text


def test_long_line(chat: Chat) -> None:
    """A line of three thousand characters arrives whole."""
    chat.send("x" * 3000)
    chat.send("\r")
    chat.until(lambda: "heard " + "x" * 3000 in chat.raw.replace("\r\n", "\n"), "the whole line")


@with_spine
def test_help_adds_what_only_this_terminal_has(chat: Chat) -> None:
    """After the help that is the same everywhere come /multi, /set and the ways to leave."""
    chat.send("/help\r")

    chat.see("/multi - ")
    assert "/teach" in chat.text


def test_error_is_one_line_and_the_chat_goes_on(chat: Chat) -> None:
    """What the engine refuses is shown in one line; nothing is left of it in the next answer."""
    chat.send("/set temperature 50\rfail\r")
    chat.see("chatbot: temperature is 50; it must be from 0 to 10")
    chat.send("hi\r")

    chat.see("heard hi")


def test_reply_with_escapes_cannot_reach_the_terminal(chat: Chat) -> None:
    """A reply that holds escape sequences is shown without them."""
    chat.send("\x1b[200~a\x1b[31mb\x1b]52;c;aGk=\x07c\x1b[201~\r")

    chat.see("heard abc")
    assert "\x1b[31m" not in chat.raw
    assert "\x1b]52" not in chat.raw


@with_spine
def test_bytes_that_are_no_text(chat: Chat) -> None:
    """Bytes that are no UTF-8 become the replacement character, in the reply and in the kept history."""
    os.write(chat.process.child_fd, b"caf\xe9\r")

    chat.see("heard caf\ufffd")


def test_no_color(chat: Chat) -> None:
    """Nothing is coloured, with NO_COLOR or without: no colour is ever chosen."""
    chat.send("hi\r")
    chat.see("heard hi")

    assert set(re.findall(r"\x1b\[[\d;]*m", chat.raw)) == {"\x1b[0m"}
    assert "\x1b[6n" not in chat.raw  # nor is the terminal asked for its cursor


def test_dumb_terminal_gets_no_escapes() -> None:
    """TERM=dumb: not one escape character, and the chat works."""
    chat = Chat(TERM="dumb", NO_COLOR="1")
    chat.prompt()
    chat.send("hi\r")
    chat.see("heard hi")
    chat.send("slow\r")
    chat.wheel()
    chat.send("\x03")
    chat.see("Stopped")
    chat.send("\x04")

    assert chat.ends() == 0
    assert "\x1b" not in chat.raw


def test_plain_c_locale() -> None:
    """With LANG=C Chinese is typed and shown all the same."""
    chat = Chat(LANG="C", LC_ALL="C")
    chat.prompt()
    chat.send("你好\r")
    chat.see("heard 你好")
    chat.send("\x04")

    assert chat.ends() == 0


def test_suspend_and_resume() -> None:
    """Ctrl-Z gives the terminal back to the shell; continued, the chat has the line as it was."""
    chat = Chat(after="echo stopped; fg >/dev/null")
    chat.prompt()
    chat.send("hal")
    chat.see("hal")
    chat.send("\x1a")
    chat.see("stopped")
    chat.until(lambda: chat.line == "> hal", "the line as it was")
    chat.send("lo\r")
    chat.see("heard hallo")
    chat.send("\x04")

    assert chat.ends() == 0


def test_keys_typed_during_a_reply_are_kept_unseen(chat: Chat) -> None:
    """What is typed while a reply takes its time is not echoed into it and is there at the next prompt, Ctrl-D too."""
    chat.send("slow\r")
    chat.wheel()
    chat.send("hi\r\x04")
    chat.process.kill(signal.SIGINT)
    chat.see("Stopped")

    assert chat.ends() == 0
    assert chat.raw.index("hi") > chat.raw.index("Stopped")
    assert "heard hi" in chat.raw
