"""The terminal adapter where nobody sits at a terminal: pipes, files, JSON, and what bytes may be in them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import MemorySpine, ScriptedEngine
from hypothesis import given
from hypothesis import strategies as st

from adapters.streams import printable
from adapters.terminal import TerminalAdapter
from chatbot.errors import ChatbotError, UsageError
from chatbot.messages import Message, Reply

TESTS = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
COMMAND = (sys.executable, str(TESTS / "terminal_main.py"))
TIMEOUT_S = 60

# (bytes on stdin, **arguments of the adapter) -> exit code, lines on stdout, text on stderr
Pipe = Callable[..., tuple[int, list[str], str]]


async def echo(message: Message) -> Reply:
    """The text as it came."""
    if message.text.startswith("fail"):
        raise UsageError("temperature is 50;\nit must be from 0 to 10")
    return Reply(message.text, "echo", "echo", seed=7, settings=message.options)


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pipe:
    """Bytes through the adapter, by way of a file."""

    def run(data: bytes, **arguments: Any) -> tuple[int, list[str], str]:
        file = tmp_path / "stdin"
        file.write_bytes(data)
        adapter = TerminalAdapter(**arguments)
        with file.open() as stdin, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", stdin)
            asyncio.run(adapter.run(MemorySpine(echo)))
        output = capsys.readouterr()
        assert output.out == "" or output.out.endswith("\n")
        return adapter.exit_code, output.out.split("\n")[:-1], output.err

    return run


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"hi\n", ["hi"]),
        (b"hi", ["hi"]),
        (b"hi\r\nho\r\n", ["hi", "ho"]),
        (b"\xef\xbb\xbfhi\n\xef\xbb\xbfho\n", ["hi", "\ufeffho"]),
        (b"a\n\n \t\nb\n\n", ["a", "", "", "b", ""]),
        (b"caf\xe9\n", ["caf\ufffd"]),
        ("你好\n🙂\nمرحبا\n".encode(), ["你好", "🙂", "مرحبا"]),
        (b"a\0b\x07c\n", ["abc"]),
        (b"a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\n", ["abc\ufffd2Jd"]),
        (b"\x1b[2J\x00\n", [""]),
        ("a\u2028b\x0bc\x85d\re\n".encode(), ["a b c d e"]),
        (b"x" * 100_000 + b"\nhi\n", ["x" * 100_000, "hi"]),
        (b"hi\n/quit\nho\n", ["hi"]),
        (b"quit\nexit\n", ["quit", "exit"]),
        (b"/multi\na\n", ["/multi stands alone on a line, at a terminal only", "a"]),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, bytes) else "",
)
def test_one_line_in_one_line_out(pipe: Pipe, data: bytes, lines: list[str]) -> None:
    """Every line gives one line of printable text, blank ones a blank one, and stderr stays empty."""
    assert pipe(data) == (0, lines, "")


def test_blank_lines_are_nobodys_message(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    """A blank line is answered without asking anybody, so that nothing of it is stored."""

    async def never(message: Message) -> Reply:
        raise AssertionError(message)

    monkeypatch.setitem(globals(), "echo", never)

    assert pipe(b"\n \n\x00\n") == (0, ["", "", ""], "")


def test_error_keeps_the_lines_in_step(pipe: Pipe) -> None:
    """A line that gets an error gives a blank line and one on stderr, and exit code 1 at the end."""
    code, lines, errors = pipe(b"a\nfail\nb\n")

    assert (code, lines) == (1, ["a", "", "b"])
    assert errors == "chatbot: temperature is 50; it must be from 0 to 10\n"


def test_json_is_one_object_a_line(pipe: Pipe) -> None:
    """--json: text, model, time and what produced it, one object for every line, blank and failed ones too."""
    code, lines, _ = pipe("你好\n\nfail\n".encode(), as_json=True, options={"top_k": 3})

    answered, blank, failed = map(json.loads, lines)
    assert answered == {
        "text": "你好",
        "model": "echo",
        "ms": 0.0,
        "engine": "echo",
        "score": None,
        "seed": 7,
        "settings": {"top_k": 3},
        "detail": None,
    }
    assert (blank["text"], blank["model"]) == ("", None)
    assert (failed["engine"], failed["detail"]) == ("error", "temperature is 50; it must be from 0 to 10")
    assert code == 1


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (["/set temperature 0.7"], {"temperature": 0.7}),
        (["/set temperature=0.7"], {"temperature": 0.7}),
        (["/set  temperature = 0.7 "], {"temperature": 0.7}),
        (["/set top_k=5", "/set seed 7"], {"top_k": 5, "seed": 7}),
        (["/set top_k=5", "/set top_k=6"], {"top_k": 6}),
        (["/set top_k=5", "/set top_k="], {}),
        (["/set top_k="], {}),
        (["/set device=cuda"], {"device": "cuda"}),
        (["/set top_k=" + "[" * 3000], {"top_k": "[" * 3000}),
        (["/set"], {}),
        (["/set top_k"], {}),
        (["/set =5"], {}),
        (["/set a b=5"], {"a": "b=5"}),
    ],
    ids=str,
)
def test_set_goes_with_the_next_messages(pipe: Pipe, lines: list[str], options: dict[str, object]) -> None:
    """/set changes the decode settings of the messages that follow; what is no setting changes nothing."""
    text = "\n".join([*lines, "hi\n"]).encode()

    code, shown, _ = pipe(text, as_json=True)

    assert code == 0
    assert json.loads(shown[-1])["settings"] == options
    assert len(shown) == len(lines) + 1


def test_set_lists_what_is_set(pipe: Pipe) -> None:
    """/set alone shows the settings, those given at the start included."""
    _, lines, _ = pipe(b"/set\n/set top_k=5\n/set\n", options={"seed": 3})

    assert lines == ["seed=3", "top_k is 5", "seed=3, top_k=5"]


def test_no_setting_says_how_to_set_one(pipe: Pipe) -> None:
    """/set with nothing set, or wrongly used, shows how it is used."""
    _, lines, _ = pipe(b"/set\n/set temperature\n")

    assert all("/set temperature=0.7" in line for line in lines)


@given(st.text())
def test_printable_leaves_nothing_to_act_on(text: str) -> None:
    """No text, printed, holds a control character but tab and newline, nor anything that cannot be encoded."""
    shown = printable(text)

    assert not {sign for sign in shown if (sign < " " or "\x7f" <= sign <= "\x9f") and sign not in "\t\n"}
    shown.encode()
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1bP1$r\x1b\\x", "x"),
        ("\x9b31mred", "red"),
        ("a\x1b]0;never closed", "a0;never closed"),
        ("\x1b(Bx\x1bcy\x1b", "xy"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("👩‍👧 é", "👩‍👧 é"),
        ("a\tb\r\nc\rd", "a\tb\nc\nd"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """Escape sequences go whole, joined emoji stay."""
    assert printable(text) == shown


def test_printable_is_quick_with_sequences_never_closed() -> None:
    """A text made of nothing but beginnings is read in linear time."""
    assert printable("\x1b]" * 100_000) == ""
    assert printable("\x1b[" * 100_000) == ""


def process(data: bytes, *arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """A chat in a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], input=data, env=ENVIRONMENT, timeout=TIMEOUT_S, check=False, capture_output=True, **more
    )


def test_pipe_of_a_process() -> None:
    """Through the whole path: replies and command answers on stdout, a line each, and no prompt, banner or escape."""
    done = process(b"hi\n/stats\n/help\n\nbye", "--spine")

    lines = done.stdout.decode().split("\n")
    assert (done.returncode, done.stderr) == (0, b"bye\n")
    assert (lines[0], lines[3:]) == ("heard hi", ["", "heard bye", ""])
    assert lines[1].startswith("Stored: chats 1, messages 1, replies 1")
    assert lines[2].startswith("Just write, and I answer.")


def test_c_locale_with_a_pipe() -> None:
    """Whatever the locale, pipes hold UTF-8."""
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(COMMAND, input="你好\n".encode(), env=environment, capture_output=True, timeout=TIMEOUT_S)

    assert done.stdout == "heard 你好\n".encode()


def test_answers_come_line_by_line() -> None:
    """A reply is there before the next line is written, and SIGTERM ends a chat that waits for one."""
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        for line in (b"one\n", b"two\n"):
            chat.stdin.write(line)
            chat.stdin.flush()
            assert chat.stdout.readline() == b"heard " + line
        chat.send_signal(signal.SIGTERM)

        assert chat.wait(TIMEOUT_S) == 0


def test_closed_stdin() -> None:
    """With no stdin there is nothing to answer, and nothing wrong."""
    done = subprocess.run(
        ["sh", "-c", '"$0" "$1" <&-', *COMMAND], env=ENVIRONMENT, capture_output=True, timeout=TIMEOUT_S
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"bye\n")


def test_reader_that_leaves(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe is the BrokenPipeError that the command line ends quietly on, and so is a terminal that is gone."""
    for number in ("EPIPE", "EIO"):
        monkeypatch.setattr("sys.stdout", Broken(number))
        with pytest.raises(BrokenPipeError):
            pipe(b"hi\n")


def test_full_disk_is_one_clear_error(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that cannot be written is said in one line."""
    monkeypatch.setattr("sys.stdout", Broken("ENOSPC"))

    with pytest.raises(ChatbotError, match="the output cannot be written"):
        pipe(b"hi\n")


def test_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Input open for writing only is said in one line."""
    with (tmp_path / "file").open("w") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(ChatbotError, match="the input cannot be read"):
            asyncio.run(TerminalAdapter().run(MemorySpine(echo)))


def test_signals_of_others_are_left_alone() -> None:
    """Where the program handles SIGTERM itself, the adapter does not take it over."""

    async def scene() -> bool:
        loop = asyncio.get_running_loop()
        engine, got = ScriptedEngine(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, got.set)
        reader, writer = os.pipe()
        os.write(writer, b"slow\n")
        os.close(writer)
        with open(reader) as stdin, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", stdin)

            async def answer(message: Message) -> Reply:
                return await engine.reply([], message.text)

            session = asyncio.create_task(TerminalAdapter().run(MemorySpine(answer)))
            await engine.waiting.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await got.wait()
            engine.release.set()
            await session
        return loop.remove_signal_handler(signal.SIGTERM)

    assert asyncio.run(scene())


def test_importing_the_adapter_loads_no_line_editor() -> None:
    """prompt_toolkit is loaded for a person only."""
    script = "import sys, adapters.terminal; sys.exit('prompt_toolkit' in sys.modules or 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env=ENVIRONMENT, timeout=TIMEOUT_S)

    assert done.returncode == 0


class Broken:
    """A stdout whose every write fails."""

    def __init__(self, number: str) -> None:
        import errno

        self._number = getattr(errno, number)

    def isatty(self) -> bool:
        """No terminal."""
        return False

    def write(self, text: str) -> int:
        """Fail."""
        raise OSError(self._number, os.strerror(self._number))

    def flush(self) -> None:
        """Nothing is kept back."""
