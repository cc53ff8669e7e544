"""Other programs, each in a process of its own environment (`benchmarks.peers`), asked for replies line by line.

A rival's program is `benchmarks/peer_NAME.py`: it builds a net of the size of ours, then reads lines "KIND COUNT" and
answers each with a JSON list of milliseconds. KIND is greedy, beam or batch; or, of a program that remembers, the
number of statements. It knows nothing of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import python_of
from benchmarks.start import peak_mb

_NETS = {"joeynmt": "JoeyNMT", "fairseq": "fairseq"}


class Rival:
    """One such process, and how to start another."""

    def __init__(self, key: str, name: str, python: Path) -> None:
        self.name = name
        self._command = [str(python), str(Path(__file__).with_name(f"peer_{key}.py"))]
        self._child = self._started()

    def milliseconds(self, kind: str, count: int) -> NDArray[np.float64]:
        """The duration of each of `count` replies."""
        return np.array(self._asked(self._child, f"{kind} {count}"))

    def first_reply(self) -> tuple[float, float]:
        """Seconds from a new process to its first reply, and the MB that it held at most."""
        begin = time.perf_counter()
        child = self._started()
        self._asked(child, "greedy 1")
        seconds = time.perf_counter() - begin
        peak = peak_mb(child.pid)
        self._ended(child)
        return seconds, peak

    def close(self) -> None:
        """End the process."""
        self._ended(self._child)

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def _asked(self, child: subprocess.Popen[str], line: str) -> list[float]:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} gave no reply; run `{' '.join(self._command)}` to see why")
        return [float(milliseconds) for milliseconds in json.loads(answer)]

    def _ended(self, child: subprocess.Popen[str]) -> None:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()


def rivals() -> list[Rival]:
    """The nets that are set up; the others are named on stderr."""
    return [found for key, name in _NETS.items() if (found := rival(key, name)) is not None]


def rival(key: str, name: str) -> Rival | None:
    """One by its key in `benchmarks.peers`; None if it is not set up."""
    python = python_of(key)
    if python is None:
        print(f"  {name} is not set up: `python -m benchmarks.peers {key}`", file=sys.stderr)
        return None
    return Rival(key, name, python)
