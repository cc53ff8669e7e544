"""A reply beside what is remembered: ours with a log of so many exchanges, ChatterBot with so many statements.

Ours is the whole path of a line, two commits included; its log lies in SQLite.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.crash import KEY
from benchmarks.rivals import Rival, rival
from benchmarks.storage import fill
from chatbot import schema
from chatbot.conversation import Conversations
from chatbot.engine import load_engine
from chatbot.messages import Message
from chatbot.store import ConversationStore

_SIZES, _QUICK_SIZES = (1_000, 100_000, 1_000_000), (100, 1_000)
_STATEMENTS = (1_000, 100_000)  # a million would take it hours
_WINDOWS, _REPLIES = 3, 20


def remembered(folder: Path, quick: bool) -> list[str]:
    """The table; ChatterBot is left out of it where it is not set up, and of quick runs."""
    sizes = _QUICK_SIZES if quick else _SIZES
    lines = ["", "| a reply with so much remembered | exchanges | p50 ms | p95 ms |", "|---|--:|--:|--:|"]
    with TemporaryDirectory() as temporary:
        for size, windows in zip(sizes, _ours(folder, Path(temporary), sizes), strict=True):
            lines.append(_row("ours, the line and the reply stored", size, windows))
    peer: Rival | None = None if quick else rival("chatterbot", "ChatterBot")
    for size in _STATEMENTS if peer else ():
        assert peer is not None
        lines.append(_row("ChatterBot, a new question, default tagger", size, [peer.milliseconds(str(size), _REPLIES)]))
    if peer:
        peer.close()
    return lines


def _row(name: str, size: int, windows: Sequence[NDArray[np.float64]]) -> str:
    p50, p95 = (median(float(np.percentile(window, share)) for window in windows) for share in (50, 95))
    return f"| {name} | {size:,} | {p50:.1f} | {p95:.1f} |"


def _ours(folder: Path, place: Path, sizes: Sequence[int]) -> list[list[NDArray[np.float64]]]:
    """For each size of the log windows of milliseconds, the logs in turn."""
    engine = load_engine(folder, device="cpu")
    stores = []
    for size in sizes:
        url = f"sqlite:///{place / str(size)}.db"
        schema.upgrade(url)
        fill(url, 2 * size)
        stores.append(ConversationStore(url, KEY))
    found: list[list[NDArray[np.float64]]] = [[] for _ in sizes]
    for window in range(_WINDOWS):
        for durations, store in zip(found, stores, strict=True):
            durations.append(asyncio.run(_milliseconds(Conversations(store, engine), window)))
    for store in stores:
        store.close()
    engine.close()
    return found


async def _milliseconds(conversations: Conversations, window: int) -> NDArray[np.float64]:
    durations = []
    for number in range(_REPLIES + 2):
        message = Message(
            "terminal", f"new {window}", "operator", "tell me more", f"{window}-{number}", datetime.now(UTC)
        )
        begin = time.perf_counter()
        await conversations.answer(message)
        durations.append((time.perf_counter() - begin) * 1000)
    return np.array(durations[2:])
