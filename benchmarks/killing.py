"""What is lost and what is doubled when `chatbot run` is killed again and again while people write and calls fail.

Out: a table. The platforms are the emulators of the tests; afterwards each message is looked for among what the bot has
said, and in the database.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from chatbot.identity import keyed_hash, load_key

if TYPE_CHECKING:
    from discord_server import DiscordServer
    from telegram_server import Call, Fault, TelegramServer

_CHATBOT = [sys.executable, "-m", "chatbot"]
_CONFIG = "chat: {model: echo}\nlimits: {user_per_minute: 0, chat_per_minute: 0}\n"
_PATIENCE_S = 120.0
Place = tuple[str, str]  # a chat and a message in it, by the platform's ids


@dataclass(frozen=True, slots=True)
class _Plan:
    """`people` who write for `seconds`, each about every `pause_s`, to a bot that lives for a time within `alive_s`."""

    seconds: float
    people: int
    pause_s: float
    alive_s: tuple[float, float]


@dataclass(slots=True)
class _Tally:
    """What was said, and how often an answer to it was seen."""

    said: dict[Place, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    kills: int = 0


class _Stage(Protocol):
    """An emulator with people: `environment` leads a bot to it."""

    environment: Mapping[str, str]

    async def say(self, person: int, text: str) -> Place:
        """Somebody writes."""

    def shown(self) -> Iterable[str]:
        """All that the bot has said."""


def killed(quick: bool) -> str:
    """The table; `quick` takes some seconds, on Telegram alone."""
    rows = []
    for name, open_stage in (("telegram", _telegram), ("discord", _discord))[: 1 if quick else 2]:
        # A session on Discord needs two seconds more: until no further server is told of.
        alive = (3.0, 8.0) if name == "telegram" else (6.0, 12.0)
        plan = _Plan(3.0, 3, 0.5, (1.5, 2.0)) if quick else _Plan(60.0, 24, 1.5, alive)
        with TemporaryDirectory() as folder:
            rows.append(asyncio.run(_row(name, open_stage, plan, Path(folder))))
    return "\n".join(
        [
            f"`chatbot run` under kill -9: {plan.people} people write for {plan.seconds:.0f} s, calls fail at random "
            "(connections broken before and after a call is carried out, 502 or 503, too many requests, on Discord the "
            "gateway, too), and after each kill it is started again. Unknown is what may have arrived and is not sent "
            "again; lost is what was neither seen nor is unknown.",
            "",
            "| platform | said | acknowledged | answered | lost | doubled | unknown | kills |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *rows,
        ]
    )


async def _row(name: str, open_stage: Any, plan: _Plan, home: Path) -> str:
    (home / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    tally, rng = _Tally(), random.Random(1)
    async with open_stage(rng) as stage:
        await _play(name, stage, plan, home, tally, rng)
        tally.seen.update(text.rpartition("\n")[2] for text in stage.shown())
    states = _states(name, home, {chat for chat, _ in tally.said})
    missing = [place for place, text in tally.said.items() if not tally.seen[text]]
    figures = [
        len(tally.said),
        sum(place in states for place in tally.said),
        len(tally.said) - len(missing),
        sum(states.get(place) != "unknown" for place in missing),
        sum(tally.seen[text] > 1 for text in tally.said.values()),
        sum(state == "unknown" for state in states.values()),
        tally.kills,
    ]
    return f"| {name} | {' | '.join(map(str, figures))} |"


async def _play(name: str, stage: _Stage, plan: _Plan, home: Path, tally: _Tally, rng: random.Random) -> None:
    """Let people write and kill the bot meanwhile; then let it do what is left."""
    variables = {**os.environ, **stage.environment, "CHATBOT_HOME": str(home)}
    for variable in ("CHATBOT_CONFIG", "CHATBOT_DATABASE_URL"):
        variables.pop(variable, None)
    subprocess.run([*_CHATBOT, "db", "upgrade", "--quiet"], env=variables, check=True)

    def start() -> subprocess.Popen[bytes]:
        with (home / "log").open("ab") as log:
            return subprocess.Popen([*_CHATBOT, "run", name], env=variables, stdin=subprocess.DEVNULL, stderr=log)

    async def write(person: int) -> None:
        number, end = 1, time.monotonic() + plan.seconds
        while time.monotonic() < end:
            await _say(stage, tally, person, number)
            number += 1
            await asyncio.sleep(plan.pause_s * rng.uniform(0.5, 1.5))

    bot = start()
    try:
        for person in range(
            plan.people
        ):  # of a direct chat that is new to a bot, Discord tells it only while it is there
            await _say(stage, tally, person, 0)
        await _until_done(home, tally, bot)
        writing = asyncio.gather(*(write(person) for person in range(plan.people)))
        while not writing.done():
            await asyncio.wait([writing], timeout=rng.uniform(*plan.alive_s))
            if not writing.done():
                bot.kill()
                await asyncio.to_thread(bot.wait)
                tally.kills += 1
                bot = start()
        await writing
        await _until_done(home, tally, bot)
    finally:
        bot.terminate()
        await asyncio.to_thread(bot.wait)


async def _say(stage: _Stage, tally: _Tally, person: int, number: int) -> None:
    text = f"{person} says {number}"
    tally.said[await stage.say(person, text)] = text


async def _until_done(home: Path, tally: _Tally, bot: subprocess.Popen[bytes]) -> None:
    """Until each message is there and nothing waits; after two minutes without a step, what is not done is lost."""
    end = time.monotonic() + _PATIENCE_S
    query = "SELECT count(*), sum(state IN ('received', 'pending', 'sending')) FROM inbox"
    before = None
    while time.monotonic() < end and (now := _rows(home, query)) != [(len(tally.said), 0)]:
        if now != before:
            before, end = now, time.monotonic() + _PATIENCE_S
        if bot.poll() is not None:
            raise RuntimeError(f"the bot ended: {(home / 'log').read_text('utf-8')[-500:]}")
        await asyncio.sleep(0.2)


def _rows(home: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "chatbot.db")) as connection:
        return connection.execute(query, values).fetchall()


def _states(name: str, home: Path, chats: Iterable[str]) -> dict[Place, str]:
    """How each message ended, by its place; chats are kept as keyed hashes."""
    key = load_key(home)
    known = {keyed_hash(key, "chat", name, chat): chat for chat in chats}
    query = "SELECT chat.key, platform_message_id, state FROM inbox JOIN chat ON chat.id = chat_id"
    return {(known[hashed], number): state for hashed, number, state in _rows(home, query)}


@dataclass
class _OnTelegram:
    """Everybody in a chat of their own with the bot."""

    server: TelegramServer
    environment: Mapping[str, str]

    async def say(self, person: int, text: str) -> Place:
        """Somebody writes."""
        message = await self.server.say(self.server.chat(501 + person), text)
        return str(501 + person), str(message["message_id"])

    def shown(self) -> Iterable[str]:
        """All that the bot has said."""
        return [call.params["text"] for call in self.server.sent]


@asynccontextmanager
async def _telegram(rng: random.Random) -> AsyncIterator[_OnTelegram]:
    from telegram_server import TOKEN, Fault, TelegramServer

    faults = [
        *(Fault("drop"), Fault("drop", after=True), Fault("status", 502), Fault("status", 500), Fault("flood", 1)),
        *(Fault("garbage", after=True), Fault("slow", 0.5, after=True)),
    ]

    def trouble(call: Call) -> Fault | None:
        return rng.choice(faults) if call.method in {"sendMessage", "getUpdates"} and rng.random() < 0.05 else None

    async with TelegramServer(chaos=trouble) as server:
        yield _OnTelegram(server, {"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_API_URL": server.url})


@dataclass
class _OnDiscord:
    """Everybody in direct messages with the bot."""

    server: DiscordServer
    environment: Mapping[str, str]
    people: dict[int, dict[str, Any]] = field(default_factory=dict)

    async def say(self, person: int, text: str) -> Place:
        """Somebody writes, from the bot's first session on."""
        await self.server.until(lambda: self.server.gateway.counted["IDENTIFY"], _PATIENCE_S)
        writer = self.people.setdefault(person, self.server.world.person(f"p{person}"))
        channel = self.server.world.direct(writer)
        message = await self.server.say(writer, channel, text)
        return channel, message["id"]

    def shown(self) -> Iterable[str]:
        """All that the bot has said."""
        world = self.server.world
        return [text for person in self.people.values() for text in world.answers(world.direct(person))]


@asynccontextmanager
async def _discord(rng: random.Random) -> AsyncIterator[_OnDiscord]:
    from discord_server import TOKEN, DiscordServer, Fault

    def trouble(method: str, path: str) -> Fault | None:
        if method != "POST" or not path.endswith("/messages") or rng.random() > 0.05:
            return None
        status = rng.choice([502, 503, 0, 429])
        return Fault(method, path, status, done=status != 429 and rng.random() < 0.5, retry_after=0.5 * (status == 429))

    async def break_off(server: DiscordServer) -> None:
        while True:
            await asyncio.sleep(rng.uniform(3.0, 12.0))
            await server.gateway.drop(forget=rng.random() < 0.5)

    async with DiscordServer() as server:
        server.chaos = trouble
        breaking = asyncio.create_task(break_off(server))
        try:
            yield _OnDiscord(server, {"DISCORD_BOT_TOKEN": TOKEN, "DISCORD_API_URL": server.api_url})
        finally:
            breaking.cancel()
