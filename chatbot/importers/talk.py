"""From records to rows: who answers whom, where a dialogue begins, and a speaker's lines in a row as one turn.

In a chat an answer is what says so by a link; without one it is what another person says within an hour. After an hour
of silence a new dialogue begins. What one speaker sends within five minutes is one turn.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from chatbot.importers.files import MAX_TEXT_CHARS
from chatbot.importers.records import Exchange, Item, Report, Row, Said

DIALOGUE_GAP = timedelta(hours=1)
TURN_GAP = timedelta(minutes=5)
_REMEMBERED = 10_000  # messages of a chat that were joined to another one, for answers to them


def rows(items: Iterable[Item], kind: str, name: str, report: Report) -> Iterator[Row]:
    """The rows of one file of the format `kind`, counted in `report` as they go."""
    chats = _Chats(report)
    prefix = hashlib.sha256(kind.encode())
    for item in items:
        if isinstance(item, Said):
            if (row := chats.add(item)) is not None:
                report.count(row)
                yield row
        elif isinstance(item, Exchange):
            for row in _dialogue(item, prefix):
                report.count(row)
                yield row
        else:
            report.skip(name, item)
    if (row := chats.end()) is not None:
        report.count(row)
        yield row


def _dialogue(exchange: Exchange, prefix: hashlib._Hash) -> Iterator[Row]:
    """A dialogue that stands by itself. Its id is a hash of the file's dialogues up to and with this one.

    So the same file gives the same ids, a file that has grown those and new ones, and twins in a file count twice.
    """
    for text in exchange.turns:
        prefix.update(len(text).to_bytes(4, "big") + text.encode("utf-8", "replace"))
    chat = prefix.copy().hexdigest()
    waiting: Row | None = None
    for place, (text, speaker) in enumerate(zip(exchange.turns, exchange.speakers, strict=True)):
        if waiting is not None and waiting.speaker == speaker:
            waiting = waiting._replace(text=f"{waiting.text}\n{text}", merged=waiting.merged + 1)
            continue
        if waiting is not None:
            yield waiting
        linked = waiting is not None and exchange.learnt in (None, speaker)
        waiting = Row(chat, speaker, text, None, str(place), waiting.id if waiting and linked else None, not place)
    if waiting is not None:
        yield waiting


class _Chats:
    """Groups the messages of chats that come one after another. Holds one turn, and which messages were joined."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._waiting: Row | None = None
        self._last: datetime | None = None
        self._joined: OrderedDict[str, str] = OrderedDict()

    def add(self, said: Said) -> Row | None:
        """Take the next message; the turn that it ends, if any."""
        before = self._waiting
        if before is None or before.chat != said.chat:
            self._report.chats += 1
            self._joined.clear()
            self._waiting, self._last = _row(said, None, begins=True), said.sent_at
            return before
        pause = None if said.sent_at is None or self._last is None else said.sent_at - self._last
        self._last = said.sent_at
        if (
            said.speaker == before.speaker
            and said.reply_to is None
            and (pause is None or abs(pause) <= TURN_GAP)
            and len(before.text) + len(said.text) < MAX_TEXT_CHARS
        ):
            self._waiting = before._replace(text=f"{before.text}\n{said.text}", merged=before.merged + 1)
            self._joined[said.id] = before.id
            if len(self._joined) > _REMEMBERED:
                self._joined.popitem(last=False)
            return None
        begins = pause is not None and abs(pause) > DIALOGUE_GAP
        if said.reply_to is not None:
            answers: str | None = self._joined.get(said.reply_to, said.reply_to)
        else:
            answers = None if begins or said.speaker == before.speaker else before.id
        self._waiting = _row(said, answers, begins=begins)
        return before

    def end(self) -> Row | None:
        """The last turn."""
        waiting, self._waiting = self._waiting, None
        return waiting


def _row(said: Said, answers: str | None, *, begins: bool) -> Row:
    return Row(said.chat, said.speaker, said.text, said.sent_at, said.id, answers, begins)
