"""One JSON document of any size, an entry of its large arrays at a time, with line numbers, past broken entries.

Built on the scanner of the standard library: in exports of chats it reads several times as fast as an event parser, it
tells which chat an entry is in, and one broken entry costs that entry. What is held in memory is one value
of at most MAX_VALUE_CHARS, however the file is built.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from json.decoder import WHITESPACE  # type: ignore[attr-defined]  # there since Python 2.6, but not in the stubs
from typing import Any, NamedTuple

MAX_VALUE_CHARS = 16 * 2**20
_NEAR_END = 16  # characters: how far from its end a text may be cut and seem wrong there
_UNDECODABLE = re.compile("[\udc80-\udcff]")

Path = tuple[str, ...]


class Found(NamedTuple):
    """A value and where it stands: keys from the root, "*" for a place in an array. `wrong`: why there is none."""

    path: Path
    value: Any
    line: int
    wrong: str | None = None


class Broken(Exception):
    """The document cannot be read on; what was found before stands. `line` is where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class JsonStream:
    """Walks a document. Arrays and objects at the paths `opened` are entered, all else comes as whole values.

    `entry` matches where an entry begins: there reading goes on behind a broken one.
    """

    def __init__(self, chunks: Iterator[bytes], opened: frozenset[Path], entry: str) -> None:
        self._chunks = chunks
        self._opened = opened
        self._entry = re.compile(rf",\s*(?={entry})")
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # as the line above
        self._text = ""
        self._at = 0
        self._line = 1
        self._counted = 0
        self._ended = False
        self._dirty = False

    def walk(self) -> Iterator[Found]:
        """Every value found, in the order of the document; Broken where it cannot be read on."""
        if self._next() == "\ufeff":
            self._at += 1
        yield from self._any(())
        if self._next():
            raise Broken(self._here(), "something behind the end of the JSON")

    def _any(self, path: Path) -> Iterator[Found]:
        first = self._next()
        if path in self._opened and first == "{":
            yield from self._object(path)
        elif path in self._opened and first == "[":
            yield from self._array(path)
        else:
            yield self._value(path)

    def _object(self, path: Path) -> Iterator[Found]:
        self._at += 1
        while (sign := self._next()) != "}":
            if sign == ",":
                self._at += 1
                self._next()
            key = self._value(path)
            if not isinstance(key.value, str) or self._next() != ":":
                raise Broken(self._here(), self._wrong())
            self._at += 1
            self._next()
            yield from self._any((*path, key.value))
        self._at += 1

    def _array(self, path: Path) -> Iterator[Found]:
        self._at += 1
        inside = (*path, "*")
        enter = inside in self._opened
        while (sign := self._next()) != "]":
            if sign == ",":
                self._at += 1
                self._next()
            elif not sign:
                raise Broken(self._here(), self._wrong())
            if enter:
                yield from self._any(inside)
            else:
                yield self._value(inside, in_array=True)
        self._at += 1

    def _value(self, path: Path, *, in_array: bool = False) -> Found:
        """The value here; in an array a broken one is passed over and told."""
        line = self._here()
        while True:
            cut = False
            try:
                value, end = self._scan(self._text, self._at)
                # A number that ends with what was read so far may go on.
                if end < len(self._text) or not self._more():
                    break
                continue
            except RecursionError:
                wrong = "nested too deeply"
            except StopIteration as error:
                wrong = "not JSON"
                cut = error.value >= len(self._text) - _NEAR_END
            except json.JSONDecodeError as error:
                wrong = "not JSON"
                cut = error.pos >= len(self._text) - _NEAR_END or error.msg.startswith("Unterminated")
                if cut and len(self._text) - self._at > MAX_VALUE_CHARS:
                    cut, wrong = False, f"longer than {MAX_VALUE_CHARS >> 20} million characters"
            except ValueError:  # a number of thousands of digits
                wrong = "not a sensible number"
            if cut and self._more():
                continue
            if not in_array or not self._resume():
                raise Broken(line, "the file ends in the middle" if cut else wrong)
            return Found(path, None, line, wrong)
        raw_from, self._at = self._at, end
        if self._dirty and _UNDECODABLE.search(self._text, raw_from, end):
            return Found(path, None, line, "not UTF-8")
        return Found(path, value, line)

    def _resume(self) -> bool:
        """Go to the next entry behind a broken one; False if there is none."""
        while True:
            found = self._entry.search(self._text, self._at + 1)
            if found is not None:
                self._at = found.end()
                return True
            self._at = max(self._at, len(self._text) - 256)  # the match may lie across two chunks
            if not self._more():
                return False

    def _next(self) -> str:
        """The next character that is no white space, not taken; "" at the end."""
        while True:
            self._at = WHITESPACE.match(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on, dropping what was taken; False at the end. As much again as is held, so that retries stay few."""
        if self._ended:
            return False
        self._here()
        parts, size, wanted = [self._text[self._at :]], 0, len(self._text) - self._at
        while size <= wanted and not self._ended:
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            parts.append(self._decode(chunk, self._ended))
            size += len(chunk)
            self._dirty = self._dirty or not _encodes(parts[-1])
        self._text = "".join(parts)
        self._at = self._counted = 0
        return True

    def _here(self) -> int:
        """The number of this line."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _wrong(self) -> str:
        return "not JSON" if self._next() else "the file ends in the middle"


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
