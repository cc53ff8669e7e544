"""How quickly messages of many people get through the whole path of a messenger, and what a kill -9 costs.

Out: a section of Markdown. The platform is the emulator that the tests use, on a loopback socket; the bot is a process
of its own, so that what it needs is measured apart. The table of `benchmarks.killing` belongs to the same section.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.killing import killed
from benchmarks.start import peak_mb
from chatbot.engine import EchoEngine
from chatbot.messages import Reply

_ROOT = Path(__file__).resolve().parent.parent
_ENGINE_S = 0.05
_TICK_S = 0.005
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class _Load:
    """`chats` people who each write so many `messages`, the next one when the last is answered."""

    chats: int
    messages: int


def section(quick: bool) -> str:
    """The tables of this file; `quick` proves only that it runs."""
    tests = str(_ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)  # where the emulators are
    rows = [
        _measured("at Telegram's pace", _Load(5, 2) if quick else _Load(200, 3), paced=True),
        _measured("as fast as it goes", _Load(5, 5) if quick else _Load(200, 20), paced=False),
    ]
    return "\n".join(
        [
            "### Delivery",
            "",
            f"Telegram's emulator, the store on SQLite, an engine that takes {1000 * _ENGINE_S:.0f} ms; everybody "
            "writes again when they are answered. From the moment an update exists to its `sendMessage`; a "
            "block is the longest time in which the loop did nothing else, own work what its thread computed in one; "
            "CPU is what all threads computed for a message.",
            "",
            "| conversations | at once | messages | a second | p50 ms | p95 ms | block, ms | own work, ms | CPU, ms | "
            "peak MB |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
            *rows,
            "",
            killed(quick),
        ]
    )


def _measured(name: str, load: _Load, *, paced: bool) -> str:
    """The row of one load."""
    waits, seconds, bot = asyncio.run(_played(load, paced))
    p50, p95 = (1000 * float(np.percentile(waits, share)) for share in (50, 95))
    return (
        f"| {load.chats} | {name} | {len(waits)} | {len(waits) / seconds:.1f} | {p50:.0f} | {p95:.0f} "
        f"| {1000 * bot['block_s']:.1f} | {1000 * bot['work_s']:.1f} "
        f"| {1000 * bot['cpu_s'] / len(waits):.1f} | {bot['peak_mb']:.0f} |"
    )


async def _played(load: _Load, paced: bool) -> tuple[list[float], float, Mapping[str, float]]:
    """How long each message waited for its answer, all of them together, and what the bot measured of itself."""
    from telegram_server import TOKEN, TelegramServer

    heard: dict[int, asyncio.Queue[float]] = {}

    class Hearing(TelegramServer):
        async def _do_sendmessage(self, params: dict[str, Any]) -> dict[str, Any]:
            sent = await super()._do_sendmessage(params)
            heard[int(params["chat_id"])].put_nowait(time.monotonic())
            return sent

    async def talk(server: TelegramServer, number: int, messages: int) -> list[float]:
        heard[number] = asyncio.Queue()
        waits = []
        for count in range(messages):
            begun = time.monotonic()
            await server.say(server.chat(number), f"message {count}")
            waits.append(await asyncio.wait_for(heard[number].get(), _PATIENCE_S) - begun)
        return waits

    async with Hearing() as server:
        with TemporaryDirectory() as home:
            environment = {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_URL": server.url, "CHATBOT_HOME": home}
            with _bot(environment, paced) as bot:
                await talk(server, 1, 2)  # connections, caches, and what everybody is told at first
                begun = time.monotonic()
                waits = await asyncio.gather(*(talk(server, 501 + n, load.messages) for n in range(load.chats)))
                seconds = time.monotonic() - begun
                measured = json.loads(await asyncio.to_thread(_ended, bot))
    return [wait for person in waits for wait in person], seconds, measured


@contextmanager
def _bot(environment: Mapping[str, str], paced: bool) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `serve`."""
    code = f"from benchmarks.delivery import serve; serve({paced})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=_ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _ended(bot: subprocess.Popen[str]) -> str:
    """What the bot printed, after it was told to stop."""
    bot.send_signal(signal.SIGTERM)
    printed, _ = bot.communicate(timeout=60)
    return printed


class _Thinking(EchoEngine):
    """Says what it is told, after the time that a model would take, as many at once as there are."""

    async def reply(
        self,
        history: Sequence[str],
        text: str,
        *,
        seed: int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Reply:
        """The text."""
        await asyncio.sleep(_ENGINE_S)
        return self.reply_sync(history, text, seed=seed, options=options)


def serve(paced: bool) -> None:
    """In a process of its own: Telegram on a store until SIGTERM; then the longest block and peak memory, as JSON."""
    from adapters.admission import Admission
    from adapters.telegram import Pace, TelegramAdapter
    from chatbot.access import Access, Limits
    from chatbot.cli.serve import settle
    from chatbot.config import database_url, home
    from chatbot.conversation import Conversations
    from chatbot.guard import GuardedEngine
    from chatbot.identity import load_key
    from chatbot.rules import Rules
    from chatbot.schema import upgrade
    from chatbot.store import ConversationStore

    upgrade(database_url())
    store = ConversationStore(database_url(), load_key(home()))
    pace = Pace() if paced else Pace(chat_s=0.0, overall_s=0.0)
    adapter = TelegramAdapter({}, Admission(Access(), Limits(0, 0)), 5.0, pace=pace)
    spine = Conversations(store, GuardedEngine(_Thinking(), Rules.load()))
    settle()
    begun = time.process_time()
    block_s, work_s = asyncio.run(_until_told(adapter.run(spine)))
    cpu_s = time.process_time() - begun
    store.close()
    print(json.dumps({"block_s": block_s, "work_s": work_s, "cpu_s": cpu_s, "peak_mb": peak_mb(os.getpid())}))


async def _until_told(session: Any) -> tuple[float, float]:
    """Run a session until SIGTERM; for how long nothing else could run at most, and at most computed, in seconds."""
    running = asyncio.ensure_future(session)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    longest = hardest = 0.0

    async def tick() -> None:
        nonlocal longest, hardest
        await asyncio.sleep(1.0)  # while libraries are imported, nobody waits yet
        while True:
            begun, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_TICK_S)
            longest = max(longest, time.perf_counter() - begun - _TICK_S)
            hardest = max(hardest, time.thread_time() - worked)

    ticking = asyncio.create_task(tick())
    with suppress(asyncio.CancelledError):
        await running
    ticking.cancel()
    return longest, hardest
