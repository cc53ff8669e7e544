"""The bytes and lines of a file that may be anything: plain or compressed, huge, cut off, or made to do harm.

Memory stays bounded: by a chunk, by the longest line that is taken, and by a ratio above which a compressed file is
no text. Nothing is ever unpacked to disk, and no path inside a file is followed.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import zstandard

from chatbot.errors import UsageError
from chatbot.importers.records import Skipped

MAX_LINE_BYTES = 16 * 2**20
MAX_TEXT_CHARS = 2**20  # of one message that runs over many lines
CHUNK_BYTES = 2**20
# A kilobyte of zstd holds at most 32 MiB (blocks of 128 KiB in 4 bytes), so this much is taken at a time.
_PACKED_BYTES = 2**10
_MAX_RATIO = 200  # exports of chats shrink to a tenth or a thirtieth
_HARMLESS_BYTES = 64 * 2**20  # up to here any ratio may be chance
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
_FOREIGN = {
    b"PK\x03\x04": "is a zip archive: unpack it and name the file that is in it",
    b"\xff\xfe": "is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8`",
    b"\xfe\xff": "is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8`",
    b"SQLite format 3": "is a database: `chatbot import` reads text files",
    b"%PDF": "is a PDF: `chatbot import` reads text files",
    b"\x89PNG": "is a picture: `chatbot import` reads text files",
}


class _Unpacker(Protocol):
    """What the decompressors of zstandard and zlib have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def chunks(path: Path) -> Iterator[bytes]:
    """The content in pieces of about 1 MiB; UsageError where it cannot be read, is cut off, or is a bomb."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder: name the files in it" if stat.S_ISDIR(mode) else "not a file: write it to one first"
            raise UsageError(f"{path} is {what}")
        with path.open("rb") as stream:
            head = stream.read(16)
            stream.seek(0)
            for magic, says in _FOREIGN.items():
                if head.startswith(magic):
                    raise UsageError(f"{path} {says}")
            packed = _kind(path, head)
            yield from (
                _unpacked(path, iter(lambda: stream.read(_PACKED_BYTES), b""), packed)
                if packed
                else iter(lambda: stream.read(CHUNK_BYTES), b"")
            )
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    except ValueError as error:  # a path with a NUL
        raise UsageError(f"{str(path)!r} is no path of a file") from error


def is_packed(path: Path) -> bool:
    """Whether the file is compressed; False if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return bool(_kind(path, stream.read(16)))
    except (OSError, ValueError):
        return False


def _kind(path: Path, head: bytes) -> str:
    if path.suffix == ".zst" or head.startswith(_ZSTD):
        return "zstd"
    return "gzip" if path.suffix == ".gz" or head.startswith(_GZIP) else ""


def _unpacker(kind: str) -> _Unpacker:
    return zstandard.ZstdDecompressor().decompressobj() if kind == "zstd" else zlib.decompressobj(wbits=31)


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (zstandard.ZstdError, zlib.error) as error:
        raise UsageError(f"{path} is damaged or not {kind}: {error}; fetch or compress it again") from error


def _unpacked(path: Path, pieces: Iterator[bytes], kind: str) -> Iterator[bytes]:
    unpacker, whole, ready, read, made = _unpacker(kind), True, bytearray(), 0, 0
    for piece in pieces:
        read += len(piece)
        with _explained(path, kind):
            while piece:
                if unpacker.eof:  # several frames behind one another are one file
                    unpacker = _unpacker(kind)
                ready += (content := unpacker.decompress(piece))
                made += len(content)
                piece = unpacker.unused_data if unpacker.eof else b""
                if made > max(_HARMLESS_BYTES, _MAX_RATIO * read):
                    raise UsageError(
                        f"{path} grows to more than {_MAX_RATIO} times its size, which no text does: unpack it yourself"
                        " if you trust it"
                    )
        whole = unpacker.eof
        if len(ready) >= CHUNK_BYTES:
            yield bytes(ready)
            ready.clear()
    if not whole or not read:
        raise UsageError(f"{path} is cut off in the middle; fetch or compress it again")
    yield bytes(ready)


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, without its end; None for one of more than MAX_LINE_BYTES."""
    number, pending, skipping = 0, b"", False
    for chunk in chunks(path):
        if skipping:
            _, end, chunk = chunk.partition(b"\n")
            if not end:
                continue
            number += 1
            yield number, None
            skipping = False
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield number, None if len(line) > MAX_LINE_BYTES else line
        if len(pending) > MAX_LINE_BYTES:
            pending, skipping = b"", True
    if pending or skipping:
        yield number + 1, None if skipping else pending


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str | Skipped]]:
    """Each line as text without its end, or what is wrong with it. A byte order mark at the start is dropped."""
    for number, line in lines(path):
        if line is None:
            yield number, Skipped(number, f"longer than {MAX_LINE_BYTES >> 20} MiB")
            continue
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            yield number, Skipped(number, f"not {encoding.upper()}")
            continue
        yield number, (text.removeprefix("\ufeff") if number == 1 else text).removesuffix("\r")


def head(path: Path) -> str:
    """The first 64 KiB as text, for guessing what a file is; what is not UTF-8 is replaced."""
    first = next(chunks(path), b"")[: 2**16]
    return first.decode("utf-8", "replace").removeprefix("\ufeff")
