"""Plain dialogues without names: `.conv` (E and M), DeepQA's `===`, and pairs as TSV or CSV.

The turns of a dialogue are taken as said by two people who take turns.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from chatbot.importers.files import MAX_TEXT_CHARS, text_lines
from chatbot.importers.records import Exchange, Item, Skipped, Source

_MOST_TURNS = 10_000
_HEADERS = frozenset(
    ("question", "input", "context", "source", "prompt", "message", "answer", "output", "reply", "target", "response")
)


def looks_conv(head: str) -> bool:
    """Whether a file that begins so has a conversation's E and M."""
    begin = [line for line in head.split("\n") if line.strip()][:3]
    return len(begin) > 1 and begin[0].strip() == "E" and all(line.startswith(("M ", "E")) for line in begin)


def looks_deepqa(head: str) -> bool:
    """Whether a file that begins so has `===` between its dialogues."""
    return any(_is_rule(line) for line in head.split("\n"))


def looks_tsv(head: str) -> bool:
    """Whether the first lines of a file all have a tab."""
    begin = [line for line in head.split("\n")[:20] if line.strip()]
    return len(begin) > 1 and all("\t" in line.strip() for line in begin[:-1])


def _is_rule(line: str) -> bool:
    return len(line.strip()) >= 3 and not line.strip(" \t\r\n=")


def _exchange(turns: list[str], line: int) -> Item:
    if len(turns) < 2:
        return Skipped(line, "fewer than two turns")
    return Exchange(tuple(turns), tuple(str(place % 2) for place in range(len(turns))), line)


def read_conv(source: Source) -> Iterator[Item]:
    """Lines `M text` are turns, a line `E` begins a dialogue."""
    turns: list[str] = []
    begin = 1
    for number, line in text_lines(source.path):
        if isinstance(line, Skipped):
            yield line
            continue
        if line.strip() == "E" or len(turns) >= _MOST_TURNS:
            if turns:
                yield _exchange(turns, begin)
            turns, begin = [], number
        if line.startswith("M ") and line[2:].strip():
            turns.append(line[2:].strip())
        elif line.strip() not in ("", "E", "M"):
            yield Skipped(number, "neither E nor M")
    if turns:
        yield _exchange(turns, begin)


def read_deepqa(source: Source) -> Iterator[Item]:
    """Each line is a turn, a line of `===` ends a dialogue."""
    turns: list[str] = []
    begin = 1
    for number, line in text_lines(source.path):
        if isinstance(line, Skipped):
            yield line
        elif _is_rule(line) or len(turns) >= _MOST_TURNS:
            if turns:
                yield _exchange(turns, begin)
            turns, begin = ([] if _is_rule(line) else [line.strip()]), number + 1
        elif line.strip():
            turns.append(line.strip())
    if turns:
        yield _exchange(turns, begin)


def read_tsv(source: Source) -> Iterator[Item]:
    """A dialogue a line, its turns between tabs. A first line that names the columns is passed over."""
    for number, line in text_lines(source.path):
        if isinstance(line, Skipped):
            yield line
        elif line.strip():
            item = _columns(line.split("\t"), number)
            if item is not None:
                yield item


def read_csv(source: Source) -> Iterator[Item]:
    """A dialogue a record, its turns in the fields; quoted ones may hold commas and line ends."""
    problems: list[Skipped] = []

    def texts() -> Iterator[str]:
        for _, line in text_lines(source.path):
            if isinstance(line, Skipped):
                problems.append(line)
            else:
                yield line + "\n"

    before = csv.field_size_limit(MAX_TEXT_CHARS)
    try:
        records = csv.reader(texts(), strict=True)
        while True:
            begin = records.line_num + 1
            try:
                fields = next(records)
            except StopIteration:
                break
            except csv.Error as error:
                yield Skipped(begin, f"not CSV ({error})")
                continue
            yield from problems
            problems.clear()
            item = _columns(fields, begin) if any(field.strip() for field in fields) else None
            if item is not None:
                yield item
        yield from problems
    finally:
        csv.field_size_limit(before)


def _columns(fields: list[str], number: int) -> Item | None:
    """The dialogue of a record; None for the names of columns."""
    turns = [field.strip() for field in fields]
    if number == 1 and {turn.lower() for turn in turns} <= _HEADERS:
        return None
    while turns and not turns[-1]:
        turns.pop()  # tables are filled up at the right
    return _exchange(turns, number) if all(turns) else Skipped(number, "an empty turn")
