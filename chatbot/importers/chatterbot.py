"""ChatterBot's corpus files: YAML with a list of `conversations`, each a list of turns.

Read by parser events, so that no tree is built, that `yes` stays the word it is, and that aliases, which can
make a huge tree out of a few lines, are never followed.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import yaml

from chatbot.errors import UsageError
from chatbot.importers.files import CHUNK_BYTES, MAX_TEXT_CHARS, chunks
from chatbot.importers.records import Exchange, Item, Skipped, Source

# A YAML parser holds one text of any length: the file's length is what bounds it.
_MAX_BYTES = 64 * 2**20
_MAX_DEPTH = 50  # far more than a corpus has; the parser's time grows with the square of it
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def looks(head: str) -> bool:
    """Whether a file that begins so has a top-level key of conversations."""
    return any(line.startswith("conversations:") for line in head.split("\n"))


class _Text:
    """The file as the YAML reader wants it: text by pieces, never more than asked for."""

    def __init__(self, source: Source) -> None:
        self._path = source.path
        self._chunks = chunks(source.path)
        self._taken = 0
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._ready = ""

    def read(self, size: int = CHUNK_BYTES, /) -> str:
        """At most `size` characters; "" at the end."""
        while not self._ready:
            chunk = next(self._chunks, b"")
            self._taken += len(chunk)
            if self._taken > _MAX_BYTES:
                raise UsageError(f"{self._path} is longer than {_MAX_BYTES >> 20} MiB: split it into several files")
            self._ready = self._decode(chunk, not chunk)
            if not chunk:
                break
        piece, self._ready = self._ready[:size], self._ready[size:]
        return piece


def read(source: Source) -> Iterator[Item]:
    """Stream the conversations; where the YAML is broken, what came before it stands."""
    try:
        yield from _conversations(yaml.parse(_Text(source), Loader=_LOADER))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        yield Skipped(mark.line + 1 if mark else 1, "not YAML from here on")
    except RecursionError:
        yield Skipped(1, "nested too deeply")


def _conversations(events: Iterator[yaml.Event]) -> Iterator[Item]:
    """Depth 1 is the mapping of the file, 2 the list of conversations, 3 a conversation; deeper is no turn."""
    depth, key, is_key, size = 0, "", False, 0
    turns: list[str] = []
    wrong = ""
    begin = 1
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 1
        inside = key == "conversations" and depth >= 2
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            if inside and depth >= 3:
                wrong = wrong or "a turn that is no text"
            depth += 1
            if depth > _MAX_DEPTH:
                yield Skipped(line, "nested too deeply; the rest is not read")
                return
            if depth == 3:
                turns, wrong, begin, size = [], "", line, 0
            is_key = depth == 1
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            if inside and depth == 3:
                yield _exchange(turns, wrong, begin)
            depth -= 1
            is_key = depth == 1
        elif isinstance(event, yaml.AliasEvent):
            wrong = wrong or "an alias in place of a text"
            is_key = depth == 1 and not is_key
        elif isinstance(event, yaml.ScalarEvent) and depth == 1:
            key, is_key = (event.value, False) if is_key else (key, True)
        elif isinstance(event, yaml.ScalarEvent) and inside:
            size += len(event.value)
            if depth == 2:
                yield Skipped(line, "not a list of turns")
            elif depth == 3 and size <= MAX_TEXT_CHARS:
                turns.append(event.value.strip())


def _exchange(turns: list[str], wrong: str, line: int) -> Item:
    if not wrong and (len(turns) < 2 or not all(turns)):
        wrong = "fewer than two turns, or an empty one"
    if wrong:
        return Skipped(line, wrong)
    return Exchange(tuple(turns), tuple(str(place % 2) for place in range(len(turns))), line)
