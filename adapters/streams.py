"""The standard streams, for adapters that talk through them: what may be printed, and lines without a thread.

Nothing here knows of messages or replies.
"""

from __future__ import annotations

import codecs
import errno
import itertools
import os
import re
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TextIO

from chatbot.errors import ChatbotError

SPINNER_DELAY_S = 0.3
_SPINNER_STEP_S = 0.1
_CHUNK_BYTES = 65536

_ESCAPE_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    # OSC and its like: titles, the clipboard.
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*[0-~]?"
)
# Tab and newline stay. The bidirectional overrides make a text look like another one.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` without anything a terminal would act on but tabs and newlines; lone surrogates become U+FFFD."""
    plain = "\n".join(_ESCAPE_SEQUENCE.sub("", text).splitlines())
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", plain))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sits at the stream; False for one that was closed before the program began."""
    return stream is not None and stream.isatty()


def never_fail_to_encode(interactive: bool) -> None:
    """Print what the terminal's encoding lacks as "?", and UTF-8 into pipes, as it is read from them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding=None if interactive else "utf-8", errors="replace")


def write(text: str, stream: TextIO | None, end: str = "\n") -> None:
    """Print at once. BrokenPipeError if nobody reads any more, ChatbotError if it cannot be written otherwise."""
    try:
        print(text, file=stream, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.EIO:  # The terminal was closed.
            raise BrokenPipeError(errno.EPIPE, "the terminal is gone") from error
        raise ChatbotError(f"the output cannot be written ({error.strerror}): check where it goes") from error


@contextmanager
def local_modes(*, off: int = 0, on: int = 0) -> Iterator[None]:
    """The local modes of the terminal at stdin, flags of `termios`, switched off and on meanwhile."""
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    changed = termios.tcgetattr(file)
    changed[3] = changed[3] & ~off | on
    termios.tcsetattr(file, termios.TCSANOW, changed)
    try:
        yield
    finally:
        with suppress(termios.error):  # The terminal may be gone.
            termios.tcsetattr(file, termios.TCSANOW, before)


@contextmanager
def spinner() -> Iterator[None]:
    """A wheel on stderr while a reply takes its time, gone before anything else is written. Terminals only."""
    if not is_terminal(sys.stderr):
        yield
        return
    import asyncio  # in the function: who only prints can do without

    loop, frames, turned = asyncio.get_running_loop(), itertools.cycle("|/-\\"), False
    timer: asyncio.TimerHandle

    def turn() -> None:
        nonlocal timer, turned
        turned = True
        write("\r" + next(frames), sys.stderr, end="")
        timer = loop.call_later(_SPINNER_STEP_S, turn)

    timer = loop.call_later(SPINNER_DELAY_S, turn)
    try:
        yield
    finally:
        timer.cancel()
        if turned:
            write("\r \r", sys.stderr, end="")


async def lines(file: int) -> AsyncIterator[str]:
    """The lines of an open file, without their ends; a byte order mark is dropped, what is no UTF-8 replaced."""
    pending = bytearray()
    first = True
    while chunk := await _read_chunk(file):
        pending += chunk
        if b"\n" not in chunk:
            continue
        *whole, rest = pending.split(b"\n")
        for line in whole:
            yield _decode(line, first)
            first = False
        pending = rest
    if pending:
        yield _decode(pending, first)


def _decode(line: bytearray, first: bool) -> str:
    if first:
        line = line.removeprefix(codecs.BOM_UTF8)
    return line.removesuffix(b"\r").decode("utf-8", "replace")


async def _read_chunk(file: int) -> bytes:
    """Some bytes when there are any, b"" at the end, without holding up the event loop or leaving a thread behind."""
    import asyncio

    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    # A regular file cannot be waited for (PermissionError), and need not be.
    with suppress(PermissionError):
        loop.add_reader(file, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(file)
    try:
        return os.read(file, _CHUNK_BYTES)
    except OSError as error:
        raise ChatbotError(f"the input cannot be read ({error.strerror}): check where it comes from") from error
