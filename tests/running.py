"""The program as people run it: a command in a process of its own, or in this one where start-up would cost too much.

A test's state folder is the one that the `home` fixture sets in the environment.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chatbot.cli import main

TIMEOUT_S = 120


@dataclass(frozen=True)
class Done:
    """A command that ended; no traceback was shown."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        for trace in ("Traceback", "Exception ignored"):
            assert trace not in self.err, self.err

    @property
    def complaint(self) -> str:
        """What a command that failed said: one line on stderr, in the program's name."""
        assert self.code in {1, 2}, self
        (line,) = self.err.splitlines()
        assert line.startswith("chatbot"), line
        return line

    @property
    def lines(self) -> list[str]:
        """What stands on stdout, each line ended by a newline and by nothing else."""
        assert not self.out or self.out.endswith("\n"), self.out
        return self.out.split("\n")[:-1]


def command(*arguments: str | Path) -> list[str]:
    """The command line of `chatbot ARGUMENTS`."""
    return [sys.executable, "-m", "chatbot", *map(str, arguments)]


def run(*arguments: str | Path, stdin: str | bytes = b"", env: Mapping[str, str] | None = None, **more: Any) -> Done:
    """`chatbot ARGUMENTS` in a process of its own."""
    done = subprocess.run(
        command(*arguments),
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=TIMEOUT_S,
        check=False,
        **more,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """`chatbot ARGUMENTS` in this process; an error that is not told in plain words fails the test."""
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as exit:
        code = int(exit.code or 0)
    return Done(code, *capsys.readouterr())


def rows(home: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What is really in the database of a state folder."""
    connection = sqlite3.connect(home / "chatbot.db")
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
