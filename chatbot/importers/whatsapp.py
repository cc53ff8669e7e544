"""What WhatsApp exports as text, in the date of whatever language and system the phone has.

A file is read twice: once for the order of day and month, which a single line does not tell, once for the messages.
The chat's id is a hash of how the file begins, a message's id its minute and its place in it: a later, longer
export of the same chat brings what is new.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chatbot.importers.files import MAX_TEXT_CHARS, text_lines
from chatbot.importers.records import Item, Said, Skipped, Source

_MARKS = "\u200e\u200f\u202a-\u202e\ufeff"
_GAP = "[ \u00a0\u202f\u2009]"
_BEFORE = "a\\.?m\\.?|am|上午|早上|凌晨|中午|午前|오전"
_AFTER = "p\\.?m\\.?|pm|下午|晚上|午後|오후"
# 31/01/2024, 10:05 - ...   [31.01.24, 10:05:12 PM] ...   2024年1月31日 下午10:05 - ...   31.1.2024 klo 10.05 - ...
_HEADER = re.compile(
    rf"[{_MARKS}]*(?P<open>\[?)(?P<a>\d{{1,4}})(?:[./-]|[年년]){_GAP}?(?P<b>\d{{1,2}})(?:[./-]|[月월]){_GAP}?"
    rf"(?P<c>\d{{1,4}})[.日일]?,?{_GAP}*(?:(?:à|às|klo|um|at|kl\.?){_GAP}+)?"
    rf"(?:(?P<early>(?i:{_BEFORE}))|(?P<late>(?i:{_AFTER})))?{_GAP}*(?P<hour>\d{{1,2}})[:.](?P<minute>\d\d)"
    rf"(?:[:.](?P<second>\d\d))?{_GAP}*(?:(?P<before>(?i:a\.?{_GAP}?m\.?))|(?P<after>(?i:p\.?{_GAP}?m\.?)))?"
    rf"(?:\]{_GAP}?|{_GAP}-{_GAP}|,{_GAP}(?=[^,]{{1,60}}?{_GAP}?:{_GAP}))"
)
_SPEAKER = re.compile(rf"([^:\n\"“”«»]{{1,60}}?){_GAP}?:(?:{_GAP}|$)")
# Sentences that the program writes for a person, in words of many languages, but always in these shapes.
_MEDIA = re.compile(r"<[^<>\n]{3,60}>|\S[^\n]*\.\w{2,4} \([^()\n]{3,40}\)")
_DELETED = re.compile(
    r"(?:this message was deleted|you deleted this message|diese nachricht wurde gelöscht|eliminaste este mensaje|"
    r"se eliminó este mensaje|message supprimé|ce message a été supprimé|此消息已删除|您已删除此消息|null)\.?",
    re.I,
)
_EDITED = re.compile(rf"[{_MARKS}]?<This message was edited>$")
_IDENTIFYING_LINES = 3
_MINUTES = 1000  # with messages: as far as a clock that was set back is followed


def looks(head: str) -> bool:
    """Whether a file that begins so is such an export."""
    return any(_HEADER.match(line) for line in head.splitlines()[:20])


@dataclass(slots=True)
class _Dialect:
    """What the dates of a file have in common, gathered line by line."""

    largest: list[int] = field(default_factory=lambda: [0, 0])
    backwards: Counter[str] = field(default_factory=Counter)
    last: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    year_first: int = 0
    dated: int = 0
    halves: bool = False
    brackets: bool = False

    def take(self, header: re.Match[str]) -> None:
        a, b, c = int(header["a"]), int(header["b"]), int(header["c"])
        self.dated += 1
        self.halves |= any(header[name] is not None for name in ("early", "late", "before", "after"))
        self.brackets |= bool(header["open"])
        if len(header["a"]) == 4:
            self.year_first += 1
            return
        self.largest = [max(self.largest[0], a), max(self.largest[1], b)]
        for order, date in (("day", (c, b, a)), ("month", (c, a, b))):
            self.backwards[order] += date < self.last.get(order, (0, 0, 0))
            self.last[order] = date

    @property
    def order(self) -> str:
        """ "year", "day" or "month": what stands first. Where no day is above 12, what makes time run forwards."""
        if self.year_first * 2 > self.dated:
            return "year"
        if self.largest[0] > 12 or self.largest[1] > 12:
            return "day" if self.largest[0] > 12 else "month"
        return "month" if self.backwards["month"] < self.backwards["day"] else "day"

    def __str__(self) -> str:
        names = {"year": "year-month-day", "day": "day-month-year", "month": "month-day-year"}
        sure = self.order == "year" or max(self.largest) > 12
        guessed = "" if sure else " (guessed from the order of the lines: no day above 12)"
        clock = "12-hour" if self.halves else "24-hour"
        return f"{names[self.order]}{guessed}, {clock} clock, {'with' if self.brackets else 'without'} brackets"


def read(source: Source) -> Iterator[Item]:
    """Stream the messages; lines without a date go with the message before."""
    dialect, chat = _survey(source.path)
    source.dialect = f"dates {dialect}"
    waiting: Said | Skipped | None = None
    parts: list[str] = []
    size = 0
    minutes: dict[datetime, int] = {}
    for number, line in text_lines(source.path):
        if isinstance(line, Skipped):
            yield line
        elif header := _HEADER.match(line):
            if waiting is not None:
                yield _whole(waiting, parts)
            size = len(line)
            waiting, parts = _begin(line[header.end() :], number, chat, _moment(header, dialect.order), minutes)
        elif isinstance(waiting, Said):
            parts.append(line)
            size += len(line)
            if size > MAX_TEXT_CHARS:
                waiting, parts = Skipped(waiting.line, f"longer than {MAX_TEXT_CHARS >> 20} million characters"), []
        elif waiting is None and line.strip():
            yield Skipped(number, "no date, and no message before it")
    if waiting is not None:
        yield _whole(waiting, parts)


def _survey(path: Path) -> tuple[_Dialect, str]:
    """The dialect of the dates, and a hash of the first lines as the chat's id."""
    dialect, begin = _Dialect(), hashlib.sha256()
    for _, line in text_lines(path):
        if not isinstance(line, Skipped) and (header := _HEADER.match(line)):
            if dialect.dated < _IDENTIFYING_LINES:
                begin.update(line.encode() + b"\n")
            dialect.take(header)
    return dialect, begin.hexdigest()


def _moment(header: re.Match[str], order: str) -> datetime | None:
    """The header's time as UTC, since no zone is given; None if there is no such day or hour."""
    a, b, c = int(header["a"]), int(header["b"]), int(header["c"])
    if len(header["a"]) == 4:
        order = "year"
    year, month, day = {"year": (a, b, c), "day": (c, b, a), "month": (c, a, b)}[order]
    hour = int(header["hour"])
    late, early = header["late"] or header["after"], header["early"] or header["before"]
    if late or early:
        if hour > 12:
            return None
        # Noon in Chinese (中午) is written as 12, and 1 for an hour later.
        hour = hour % 12 + (12 if late or (early == "中午" and hour != 11) else 0)
    try:
        return datetime(
            year + 2000 if year < 100 else year,
            month,
            day,
            hour,
            int(header["minute"]),
            int(header["second"] or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None


def _begin(
    rest: str, number: int, chat: str, moment: datetime | None, minutes: dict[datetime, int]
) -> tuple[Said | Skipped, list[str]]:
    """What a dated line begins, and the first piece of its text."""
    if moment is None:
        return Skipped(number, "no such date"), []
    place = minutes.get(moment, 0)
    minutes[moment] = place + 1
    if len(minutes) > _MINUTES:
        del minutes[next(iter(minutes))]
    speaker = _SPEAKER.match(rest.lstrip("\u200e\u200f"))
    if speaker is None:
        return Skipped(number, "service message", bad=False), []
    text = rest.lstrip("\u200e\u200f")[speaker.end() :]
    name = speaker[1].strip(" ~\u00a0\u202f\u202a\u202c\u200e\u200f")
    return Said(chat, name, "", moment, f"{moment:%Y-%m-%dT%H:%M:%S}#{place}", None, number), [text]


def _whole(waiting: Said | Skipped, parts: list[str]) -> Item:
    """The message with all its lines, or why it is none."""
    if isinstance(waiting, Skipped):
        return waiting
    text = _EDITED.sub("", "\n".join(parts)).strip()
    if text.startswith("\u200e") or _MEDIA.fullmatch(text):
        return Skipped(waiting.line, "no words", bad=False)
    text = text.strip("\u200e\u200f")
    if not text or _DELETED.fullmatch(text):
        return Skipped(waiting.line, "no words" if not text else "deleted", bad=False)
    return waiting._replace(text=text)
