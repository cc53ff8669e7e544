"""How long a new `chatbot chat` takes to its prompt and to its first reply, what of that dominates, and its memory.

Out: a section of Markdown. Everything is measured on fresh processes from outside, in a home folder of their own; the
parts are timed in one more process that does one after another what `chatbot chat` does.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pexpect

if TYPE_CHECKING:
    from chatbot.engine import Engine

_CHATBOT = [sys.executable, "-m", "chatbot"]
_LINES = ("hi", "how are you?", "tell me a joke", "what is your name?", "good night")
_PATIENCE_S = 120
_PROMPT = "to the first prompt, in a terminal"
_REPLY = "to the first reply, in a pipe"
_UPGRADE = "`chatbot db upgrade` on a new home, which `make chat` runs before"
# What `chatbot chat` imports by and by; what computes apart, since it is most of it.
_MODULES = ("chatbot.cli", "chatbot.conversation", "chatbot.store", "adapters.terminal", "prompt_toolkit")


def section(quick: bool) -> str:
    """The tables of this file; `quick` takes a tiny model and one process of each kind."""
    with TemporaryDirectory() as temporary:
        environment = {**os.environ, "CHATBOT_HOME": f"{temporary}/0", "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        for name in ("CHATBOT_CONFIG", "CHATBOT_DATABASE_URL"):
            environment.pop(name, None)
        chosen: list[str] = []  # nothing: the model that answers on a fresh machine
        if quick:
            from benchmarks.reply import QUICK_SIZE, save_random_model

            save_random_model(Path(temporary) / "random", QUICK_SIZE)
            chosen = ["--model", str(Path(temporary) / "random")]
        return _measure(environment, Path(temporary), chosen, windows=1 if quick else 7)


def _measure(environment: Mapping[str, str], folder: Path, chosen: list[str], windows: int) -> str:
    whole: dict[str, list[float]] = {_UPGRADE: [], _PROMPT: [], _REPLY: []}
    parts: dict[str, list[float]] = {}
    peaks: list[float] = []
    chat = [*_CHATBOT, "chat", *chosen]
    code = f"from benchmarks.start import time_parts; time_parts({chosen[-1] if chosen else None!r})"
    for number in range(windows):
        new_home = {**environment, "CHATBOT_HOME": str(folder / str(number))}
        whole[_UPGRADE].append(_seconds(partial(_run, [*_CHATBOT, "db", "upgrade", "--quiet"], new_home)))
        whole[_PROMPT].append(_seconds_to_prompt(chat, environment))
        seconds, peak = _pipe(chat, environment)
        whole[_REPLY].append(seconds)
        peaks.append(peak)
        bare = _seconds(partial(_run, [sys.executable, "-c", "pass"], environment))
        timed = json.loads(_run([sys.executable, "-c", code], environment))
        for name, seconds in {"Python itself": bare, **timed}.items():
            parts.setdefault(name, []).append(seconds)
    return _tables(whole, parts, peaks)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    """Its stdout; what it says on stderr is passed on. CalledProcessError if it fails."""
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE_S
    ).stdout


def _seconds_to_prompt(chat: list[str], environment: Mapping[str, str]) -> float:
    """Seconds until somebody at a terminal can type; the chat is left with Ctrl-D."""
    begin = time.perf_counter()
    child = pexpect.spawn(chat[0], chat[1:], env=environment, timeout=_PATIENCE_S)
    try:
        # The line editor switches bracketed paste on, then draws the prompt.
        if child.expect([rb"\x1b\[\?2004h[^>]*>", pexpect.EOF]) == 1:
            raise RuntimeError(f"`{' '.join(chat)}` ended before its prompt; run it to see why")
        seconds = time.perf_counter() - begin
        child.sendeof()
        child.expect(pexpect.EOF)
    finally:
        child.close()
    return seconds


def _pipe(chat: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Seconds until the reply to the first line of a pipe, and the peak memory in MB after a few more."""
    begin = time.perf_counter()
    with subprocess.Popen(chat, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        seconds = 0.0
        for line in _LINES:
            child.stdin.write(line + "\n")
            child.stdin.flush()
            if not child.stdout.readline():
                raise RuntimeError(f"`{' '.join(chat)}` gave no reply; run it to see why")
            seconds = seconds or time.perf_counter() - begin
        peak = peak_mb(child.pid)
        child.stdin.close()
    return seconds, peak


def peak_mb(pid: int) -> float:
    """The most physical memory that a living process has held; where the system does not tell, what it holds now.

    Not from getrusage: Linux counts there what the process that started it held.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    except OSError:
        kilobytes = subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)], text=True)
    return int(kilobytes) * 1024 / 1e6


def time_parts(model: str | None) -> None:
    """In a process of its own: what `chatbot chat` does until its first reply, part by part, as JSON on stdout."""

    def imports() -> None:
        for name in _MODULES:
            importlib.import_module(name)

    def open_store() -> None:
        from chatbot.cli.opening import open_store

        open_store()

    def load_rules() -> None:
        from chatbot.rules import Rules

        Rules.load()

    def load_model() -> None:
        from chatbot.engine import load_engine

        engines.append(load_engine(model))

    engines: list[Engine] = []
    timed = {
        "import of numpy and ONNX Runtime": _seconds(lambda: importlib.import_module("onnxruntime")),
        "import of the rest": _seconds(imports),
        "opening the database": _seconds(open_store),
        "reading the rules": _seconds(load_rules),
        "loading the model": _seconds(load_model),
        "the first reply": _seconds(lambda: engines[0].reply_sync([], _LINES[0])),
    }
    engines[0].close()
    print(json.dumps(timed))


def _tables(whole: Mapping[str, list[float]], parts: Mapping[str, list[float]], peaks: list[float]) -> str:
    total = median(map(sum, zip(*parts.values(), strict=True)))
    first = max(parts, key=lambda name: median(parts[name]))
    lines = [
        "### Start and memory",
        "",
        f"Fresh processes, files in the system's cache. Medians of {len(peaks)} of each kind, in turn.",
        "",
        "| a new process | s [least..most] |",
        "|---|--:|",
        *(f"| {name} | {median(s):.2f} [{min(s):.2f}..{max(s):.2f}] |" for name, s in whole.items()),
        "",
        "| part, one after another | s | share |",
        "|---|--:|--:|",
        *(f"| {name} | {median(s):.3g} | {100 * median(s) / total:.3g} % |" for name, s in parts.items()),
        "",
        f"What dominates: {first}, {median(parts[first]) / total:.0%} of {total:.2f} s.",
        "",
        "| memory | MB [least..most] |",
        "|---|--:|",
        f"| peak of a chat process after {len(_LINES)} replies | "
        f"{median(peaks):.0f} [{min(peaks):.0f}..{max(peaks):.0f}] |",
    ]
    return "\n".join(lines)
