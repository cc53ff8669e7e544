"""Whose turn it is to write to a SQLite file: who came first, over all processes. Knows no SQL.

SQLite lets those who find the file locked try again after longer and longer pauses, and whoever comes in the moment of
its release is served. So a process that writes transaction after transaction, such as an import, can keep others out
until their patience ends, though the file was free a hundred times. Here they stand in line.

The line is courtesy, not protection: SQLite's own lock is what keeps writers apart, and where there can be no line, or
somebody in it stands still, there is none.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PAUSE_S = 0.0005  # between two looks ahead: short beside a commit that is synced to the disk


class WritersQueue:
    """The line before one database. `file` is always empty: in it each who waits or writes locks a byte.

    A byte's place is the moment when its owner came, on the clock that all processes of a machine share. The system
    takes the lock back when the process ends, however it does.
    """

    def __init__(self, file: Path, patience_s: float) -> None:
        self._path = file
        self._patience_s = patience_s
        self._file: int | None = None

    def close(self) -> None:
        """Leave the line for good."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until all who came before are done, or patience is over; hold the turn. One thread at a time."""
        place = None
        with suppress(OSError):
            place = self._line_up()
        try:
            yield
        finally:
            if place is not None:
                with suppress(OSError):
                    fcntl.lockf(self._open(), fcntl.LOCK_UN, 1, place)

    def _line_up(self) -> int:
        file = self._open()
        place = time.monotonic_ns() // 1000
        while not _locks(file, fcntl.LOCK_EX, 1, place):
            place += 1  # somebody came in the same microsecond
        end = time.monotonic() + self._patience_s
        # A shared lock on all that lies before is to be had when nobody holds a byte of it.
        while not _locks(file, fcntl.LOCK_SH, place, 0):
            if time.monotonic() > end:
                return place
            time.sleep(_PAUSE_S)
        fcntl.lockf(file, fcntl.LOCK_UN, place, 0)
        return place

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return self._file


def _locks(file: int, how: int, length: int, start: int) -> bool:
    try:
        fcntl.lockf(file, how | fcntl.LOCK_NB, length, start)
    except BlockingIOError:
        return False
    except PermissionError:  # how some systems say the same
        return False
    return True
