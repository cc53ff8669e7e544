"""Many processes at once on one database, for a while: what each got done, and what went wrong. Out: a table."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.crash import KEY
from chatbot.config import LearnSettings
from chatbot.database import sqlite_file
from chatbot.errors import ChatbotError
from chatbot.learnable import DEFAULT_POLICY
from chatbot.messages import Message, Reply
from chatbot.search import Wanted
from chatbot.store import ConversationStore
from chatbot.transfer import copy_database

_WRITERS = 4
_READING_S = 5.0  # of the log, then from its beginning again


def crowd(url: str, seconds: float) -> list[str]:
    """Four writers, an export, a copy, a reader as `retrain` is, and a search that fills the index, again and again."""
    context = multiprocessing.get_context("fork")
    jobs: list[tuple[str, Callable[[str, Path], int]]] = [(f"writer {n}", _write) for n in range(_WRITERS)]
    jobs += [("export", _export), ("copy", _copy), ("training", _learn), ("search", _search)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        children = [context.Process(target=_repeat, args=(work, url, folder, job, seconds)) for job, work in jobs]
        for child in children:
            child.start()
        for child in children:
            child.join()
        told = {job: json.loads((folder / job).read_text()) for job, _ in jobs}
    lines = [f"| {seconds:g} s at once, a process each | done | slowest, s | errors |", "|---|--:|--:|--:|"]
    for title, wanted in (
        (f"{_WRITERS} writers: exchanges", [job for job, _ in jobs if job.startswith("writer")]),
        ("`chatbot export` of the whole log", ["export"]),
        ("`chatbot db copy` of the whole log into a file", ["copy"]),
        ("rows read for training by one that cannot write", ["training"]),
        ("searches", ["search"]),
    ):
        found = [told[job] for job in wanted]
        errors = [error for one in found for error in one["errors"]]
        slowest = max(one["slowest"] for one in found)
        lines.append(f"| {title} | {sum(one['done'] for one in found):,} | {slowest:.2f} | {len(errors)} |")
        lines += [f"| error: {error} | | | |" for error in sorted(set(errors))[:3]]
    return lines


def _repeat(work: Callable[[str, Path], int], url: str, folder: Path, name: str, seconds: float) -> None:
    """Do it again and again; how much was done, how long the slowest took, and what went wrong."""
    done, slowest, errors = 0, 0.0, []
    end = time.monotonic() + seconds
    own = folder / f"of {name}"
    own.mkdir()
    while time.monotonic() < end:
        begin = time.monotonic()
        try:
            done += work(url, own)
        except ChatbotError as error:
            errors.append(str(error))
        slowest = max(slowest, time.monotonic() - begin)
    (folder / name).write_text(json.dumps({"done": done, "slowest": slowest, "errors": errors}))


_STORES: dict[str, ConversationStore] = {}  # of this process


def _store(url: str) -> ConversationStore:
    if url not in _STORES:
        _STORES[url] = ConversationStore(url, KEY)
    return _STORES[url]


def _write(url: str, folder: Path) -> int:
    store = _store(url)
    number = f"{folder.name}-{time.monotonic_ns()}"
    message = Message("terminal", folder.name, "me", "tell me about the sun", number, datetime.now(UTC))
    row = store.record_message(message).id
    store.history(row, 6)
    store.record_reply(row, Reply("it shines", "m1", "seq2seq"))
    return 1


def _export(url: str, folder: Path) -> int:
    from training.export import export_pairs  # late: it brings all of `training`

    export_pairs(_store(url), LearnSettings(), folder / "log.jsonl", context_turns=6, name="crowd", kept=False)
    return 1


def _copy(url: str, folder: Path) -> int:
    copy_database(url, f"sqlite:///{folder}/copy.db")
    for file in folder.iterdir():
        file.unlink()
    return 1


def _learn(url: str, folder: Path) -> int:
    file = sqlite_file(url)
    pairs = _store(url if file is None else f"sqlite:///file:{file}?mode=ro&uri=true").learnable_pairs(
        DEFAULT_POLICY, 6
    )
    end = time.monotonic() + _READING_S
    for _ in pairs:
        if time.monotonic() > end:
            break
    return 1 + sum(pairs.left_out.values())


def _search(url: str, folder: Path) -> int:
    return 1 if _store(url).search(Wanted(words=("kitchen",)), 50) else 0
