"""Copies of stored words outside the database: every file of ours that may hold some, found again and cleaned.

`copies.jsonl` in the state folder names what was written, one line a file, added before the file is. It is only added
to, so that several processes can; a file that is gone is passed over. It knows no database: who calls says which rows
must go.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chatbot.errors import UsageError

log = logging.getLogger(__name__)

# Which of these rows a copy of that moment must not hold any more.
Gone = Callable[[Collection[int], datetime], Collection[int]]


@dataclass(frozen=True, slots=True)
class _Copy:
    path: Path
    at: datetime
    whole: bool
    of: str | None  # what it was made from, and goes with, such as tokens of a file


class Copies:
    """The copies that were written under one state folder; `typed` is the file of lines typed at the terminal."""

    def __init__(self, home: Path) -> None:
        self._list = home / "copies.jsonl"
        self._typed = home / "history"

    def remember(self, path: Path, *, of: Path | None = None, whole: bool = False) -> None:
        """Note a file or folder that is about to be written; UsageError if that cannot be noted.

        Its lines are JSON with `message_ids`; or it was made from `of`, and goes with it; or it is `whole`, such as a
        backup: never cleaned, but listed for whoever runs the bot to delete, and noted when it is complete.
        """
        at = datetime.now(UTC).isoformat()
        note = {"path": str(path.absolute()), "at": at, "whole": whole, "of": of and str(of.absolute())}
        try:
            self._list.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._list, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            with os.fdopen(file, "a", encoding="utf-8") as stream:
                stream.write("\n" + json.dumps(note) + "\n")  # the last note may have been cut off
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise UsageError(
                f"{self._list} cannot be written ({error.strerror}): make it and its folder writable"
            ) from error

    def knows(self, path: Path) -> bool:
        """Whether a file is one of these copies."""
        return any(copy.path == path.absolute() for copy in self._all())

    def clean(self, gone: Gone) -> list[Path]:
        """Take the rows that are gone out of every copy that is not whole; the files that were changed or deleted."""
        changed: list[Path] = []
        copies = [copy for copy in self._all() if not copy.whole and copy.path.exists()]
        # In their order: what was made of a copy was noted after it.
        for copy in sorted(copies, key=lambda copy: copy.of is not None):
            try:
                if copy.of is None:
                    touched = _clean(copy, gone)
                elif touched := Path(copy.of) in changed:
                    shutil.rmtree(copy.path) if copy.path.is_dir() else copy.path.unlink()
            except OSError as error:  # must not keep the others from being cleaned; tried again at the next start
                log.warning("what was erased cannot be taken out of %s (%s): delete it", copy.path, error.strerror)
                continue
            if touched:
                changed.append(copy.path)
        return changed

    def forget_typed(self) -> None:
        """Empty the file of lines typed at the terminal, which may be open: a new one would not be private."""
        with suppress(FileNotFoundError), self._typed.open("r+b") as lines:
            lines.truncate()

    def whole(self, database: Path | None) -> list[Path]:
        """What cannot be cleaned and is still there, oldest first; `database` is a file with backups beside it."""
        copies = [copy for copy in self._all() if copy.whole and copy.path.is_file()]
        # What was changed after it was noted is another file by now.
        found = {copy.path for copy in copies if copy.path.stat().st_mtime <= copy.at.timestamp()}
        if database is not None:
            found.update(path.absolute() for path in database.parent.glob(f"{database.name}.*.bak"))
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def _all(self) -> list[_Copy]:
        """The latest note about each path, in the order of these notes."""
        copies: dict[Path, _Copy] = {}
        for note in self._notes():
            path = Path(note["path"])
            copies.pop(path, None)
            copies[path] = _Copy(path, datetime.fromisoformat(note["at"]), note["whole"], note["of"])
        return list(copies.values())

    def _notes(self) -> Iterator[dict[str, Any]]:
        with suppress(FileNotFoundError), self._list.open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError):  # the last line of a machine that died
                    yield json.loads(line)


def _clean(copy: _Copy, gone: Gone) -> bool:
    """Leave out the lines with rows that are gone; whether there were some. A file of nothing else is deleted."""
    with copy.path.open("rb") as lines:
        ids = {row for line in lines for row in _rows(line)}
    lost = set(gone(ids, copy.at))
    if not lost:
        return False
    building = copy.path.with_name(f".{copy.path.name}.{os.getpid()}")
    try:
        with copy.path.open("rb") as lines, building.open("wb") as stream:
            shutil.copymode(copy.path, building)
            stream.writelines(line for line in lines if lost.isdisjoint(_rows(line)))
        if building.stat().st_size:
            building.replace(copy.path)
        else:
            copy.path.unlink()
    finally:
        building.unlink(missing_ok=True)
    return True


def _rows(line: bytes) -> list[int]:
    """The rows whose texts a line holds; none in what is no line of ours: somebody may have put another file there."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return []
    rows = record.get("message_ids") if isinstance(record, dict) else None
    return [row for row in rows if isinstance(row, int) and 0 < row < 2**63] if isinstance(rows, list) else []
