"""What readers of files hand on, what grouping makes of it, and the report of a reading: values, and counts.

Named tuples, not dataclasses: a large export makes millions of them, and they take a third of the time to make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

IMPORT_PLATFORM = "import"  # where people and chats are at home that have no account anywhere
_SHOWN_PROBLEMS = 5
_MOST_SPEAKERS = 10_000  # counted one by one in a preview


class Said(NamedTuple):
    """A message of a chat. `chat`, `speaker`, `id` and `reply_to` (an id in the same chat) are the source's own."""

    chat: str
    speaker: str
    text: str
    sent_at: datetime | None
    id: str
    reply_to: str | None
    line: int


class Exchange(NamedTuple):
    """A whole dialogue, a speaker for each turn. If `learnt` names a speaker, only that one's turns are answers."""

    turns: tuple[str, ...]
    speakers: tuple[str, ...]
    line: int
    learnt: str | None = None


class Skipped(NamedTuple):
    """Something left out. `bad` is False for what is no mistake in the file, such as a photo without words."""

    line: int
    reason: str
    bad: bool = True


Item = Said | Exchange | Skipped


class Row(NamedTuple):
    """A turn as it is stored. `reply_to` is the `id` of another row of the chat; `begins`: nothing before is context.

    `merged` is how many messages of the speaker it joins.
    """

    chat: str
    speaker: str
    text: str
    sent_at: datetime | None
    id: str
    reply_to: str | None
    begins: bool
    merged: int = 1


@dataclass(slots=True)
class Source:
    """A file to read; the reader notes here what kind of the format it met, such as the order of day and month."""

    path: Path
    dialect: str = ""


@dataclass(slots=True)
class Report:
    """What a reading met; complete when its rows are exhausted. `messages` = turns + joined + left out."""

    messages: int = 0
    dialogues: int = 0
    turns: int = 0
    joined: int = 0
    speakers: Counter[str] = field(default_factory=Counter)
    chats: int = 0
    first: datetime | None = None
    last: datetime | None = None
    dialects: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def skip(self, name: str, skipped: Skipped) -> None:
        """Count what was left out of the file `name`; the first mistakes are kept with their lines."""
        self.messages += 1
        if not skipped.bad:
            self.notes[skipped.reason] += 1
            return
        self.skipped[skipped.reason] += 1
        if len(self.problems) < _SHOWN_PROBLEMS:
            self.problems.append(f"{name} line {skipped.line}: {skipped.reason}")

    def count(self, row: Row) -> None:
        """Count a turn."""
        self.turns += 1
        self.messages += row.merged
        self.joined += row.merged - 1
        self.dialogues += row.begins
        if row.speaker in self.speakers or len(self.speakers) < _MOST_SPEAKERS:
            self.speakers[row.speaker] += 1
        if row.sent_at is not None:
            self.first = row.sent_at if self.first is None else min(self.first, row.sent_at)
            self.last = row.sent_at if self.last is None else max(self.last, row.sent_at)


Items = Iterator[Item]
