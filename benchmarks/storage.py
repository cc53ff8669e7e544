"""What a long log costs, how quickly it is searched, and what kills and crowds do to it. Out: a section of Markdown.

Everything goes through `ConversationStore`. SQLite in a temporary folder, or the database that `--database` names,
which must be empty. The figures of a long log are compared with those of a short one,
call by call in turn.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from sqlalchemy import func, insert, select, text

from benchmarks.crash import KEY, Outcome, kill_writers
from benchmarks.crowd import crowd
from chatbot import schema, textindex
from chatbot import tables as t
from chatbot.database import in_memory, open_engine, sqlite_file, writer
from chatbot.errors import UsageError
from chatbot.identity import keyed_hash
from chatbot.messages import Message, Reply
from chatbot.records import insert_many
from chatbot.search import Wanted
from chatbot.store import ConversationStore

_PLATFORM = "terminal"
_PER_CHAT = 200  # messages and replies of one chat in the made-up log
_AT_A_TIME = 50  # chats in which people talk during the same days
_WINDOW = 100  # calls
_LIKED = 20  # every so many rows a reply is liked, so that there is something to learn from
_START = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = (
    *("the", "a", "cat", "dog", "lunch", "kitchen", "soup", "bread", "yes", "no", "maybe", "where", "when", "why"),
    *("tell", "me", "about", "your", "day", "tonight", "music", "rain", "sun", "walk", "home", "work", "late", "early"),
    *("good", "bad", "fine", "never", "always", "think", "know", "want", "read", "book", "film", "coffee", "tea"),
)
_RARE, _CHINESE = "clavichord", "今天想吃面条"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    short: int = 1_000
    long: int = 1_000_000
    calls: int = 1_500
    kills: int = 200
    writers: int = 32
    crowd: int = 100_000
    seconds: float = 60.0


_QUICK = Sizes(short=200, long=2_000, calls=200, kills=2, writers=8, crowd=1_000, seconds=1.0)


def section(quick: bool, database: str | None = None) -> str:
    """The tables of this file; `quick` takes small logs, few kills and a second."""
    sizes = _QUICK if quick else Sizes()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if database is not None and (in_memory(database) or sqlite_file(database) is not None):
            raise UsageError("--database is for a server: SQLite is measured without it, in a temporary folder")
        name = "SQLite" if database is None else "PostgreSQL"
        parts = [f"### Storage on {name}", ""]
        with _place(database, folder / "short.db") as short, _place(database, folder / "long.db") as long:
            for place, count in ((short, sizes.short), (long, sizes.long)):
                _tell(f"making up {count:,} rows")
                fill(place, count)
            _tell("messages, histories, replies")
            parts += [*_lengths(short, long, sizes), ""]
            _tell("searches")
            parts += [*_searches(long, sizes), ""]
        with _place(database, folder / "crowd.db") as place:
            _tell(f"a crowd for {sizes.seconds:g} seconds")
            fill(place, sizes.crowd)
            parts += [f"With {sizes.crowd:,} rows at the start:", "", *crowd(place, sizes.seconds), ""]
        with _place(database, folder / "kills.db") as place:
            _tell(f"{sizes.kills} kills")
            (folder / "notes").mkdir()
            outcome = kill_writers(
                place, folder / "notes", kills=sizes.kills, processes=4, writers=sizes.writers, seed=7
            )
        return "\n".join([*parts, *_kills(outcome, sizes)])


def _tell(what: str) -> None:
    print(f"  {datetime.now():%H:%M:%S} {what}", file=sys.stderr)


@contextmanager
def _place(database: str | None, file: Path) -> Iterator[str]:
    """The url of a new database: a file, or a schema of its own on the server."""
    if database is None:
        schema.upgrade(f"sqlite:///{file}")
        yield f"sqlite:///{file}"
        return
    name = f"bench_{file.stem}_{os.getpid()}"
    engine = open_engine(database)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
        connection.execute(text(f"CREATE SCHEMA {name}"))
    url = f"{database}{'&' if '?' in database else '?'}options=-csearch_path%3D{name},public"
    try:
        schema.upgrade(url)
        yield url
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()


def fill(url: str, count: int) -> None:
    """Make up a log of so many rows, message and reply in turn, in chats of one person each."""
    chance = random.Random(count)
    engine = writer(open_engine(url))
    chats = max(1, count // _PER_CHAT)
    people = [
        {"id": n, "platform": _PLATFORM, "key": keyed_hash(KEY, "person", _PLATFORM, f"p{n}")} for n in _ids(chats)
    ]
    places = [
        {
            "id": n,
            "platform": _PLATFORM,
            "key": keyed_hash(KEY, "chat", _PLATFORM, f"c{n}"),
            "thread": "",
            "name": f"c{n}",
        }
        for n in _ids(chats)
    ]
    with engine.begin() as connection:
        connection.execute(insert(t.person), [row | {"created_at": _START} for row in people])
        connection.execute(insert(t.chat), [row | {"created_at": _START, "context_start": 0} for row in places])
        for first in range(1, count + 1, 1_000):
            rows = [_row(number, chats, chance) for number in range(first, min(first + 1_000, count + 1))]
            insert_many(connection, [t.message.c[name] for name in rows[0]], [tuple(row.values()) for row in rows])
            liked = [_liked(row) for row in range(first, first + len(rows)) if row % _LIKED == 0]
            connection.execute(insert(t.feedback), liked)
        if engine.dialect.name == "postgresql":
            for name in ("person", "chat", "message"):
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"))
    engine.dispose()
    if engine.dialect.name == "postgresql":
        server = open_engine(url)
        with server.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))  # as its own service does sooner or later
        server.dispose()


def _ids(count: int) -> range:
    return range(1, count + 1)


def _row(number: int, chats: int, chance: random.Random) -> dict[str, object]:
    said = " ".join(chance.choices(_WORDS, k=chance.randint(3, 12)))
    if number % 5_000 == 17:
        said += f" {_RARE}"
    if number % 1_000 == 3:
        said += f" {_CHINESE}"
    bot = number % 2 == 0
    # Some chats at a time, in turn, an exchange each: what lies side by side in the file is of different chats, as in
    # a real log.
    block, place = divmod(number - 1, _PER_CHAT * _AT_A_TIME)
    chat = min(block * _AT_A_TIME + place // 2 % _AT_A_TIME + 1, chats)
    return {
        "chat_id": chat,
        "person_id": None if bot else chat,
        "platform_message_id": None if bot else f"m{number}",
        "reply_to_id": number - 1 if bot else None,
        "role": "bot" if bot else "user",
        "text": said,
        "context_start": 0,
        "created_at": _START + timedelta(seconds=number),
        "engine": "seq2seq" if bot else None,
        "model_id": "m1" if bot else None,
        "decode_json": {"beam_size": 1} if bot else None,
        "latency_ms": 30.0 if bot else None,
    }


def _liked(number: int) -> dict[str, object]:
    return {"message_id": number, "person_id": 1, "rating": 1, "at": _START}


def _lengths(short: str, long: str, sizes: Sizes) -> list[str]:
    """What a message costs the store in a short and in a long log, call by call in turn."""
    stores = {sizes.short: ConversationStore(short, KEY), sizes.long: ConversationStore(long, KEY)}
    histories: dict[int, list[float]] = {count: [] for count in stores}
    whole: dict[int, list[float]] = {count: [] for count in stores}
    chance = random.Random(11)
    for call in range(sizes.calls):
        for count, store in stores.items():
            chat = f"c{chance.randint(1, max(1, count // _PER_CHAT))}"
            message = Message(_PLATFORM, chat, "me", "tell me about the rain", f"new{call}", datetime.now(UTC))
            begin = time.perf_counter()
            row = store.record_message(message).id
            middle = time.perf_counter()
            history = store.history(row, 6)
            end = time.perf_counter()
            store.record_reply(row, Reply("it rains", "m1", "seq2seq"))
            whole[count].append(1000 * (time.perf_counter() - begin))
            histories[count].append(1000 * (end - middle))
            assert history
    for store in stores.values():
        store.close()
    return [
        f"In turn, {sizes.calls:,} calls each, every one in a chat drawn anew; p95 of every {_WINDOW} calls in a row,"
        " and the median of these.",
        "",
        f"| p95 of a call, ms | {sizes.short:,} rows | {sizes.long:,} rows | ratio [least..most] |",
        "|---|--:|--:|--:|",
        _compared("`history()`, 6 turns", histories[sizes.short], histories[sizes.long]),
        _compared("all that `reply` adds: message, history, reply", whole[sizes.short], whole[sizes.long]),
    ]


def _compared(name: str, short: list[float], long: list[float]) -> str:
    few, many = _p95s(short), _p95s(long)
    ratios = [large / small for small, large in zip(few, many, strict=True)]
    span = f"{median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
    return f"| {name} | {median(few):.2f} | {median(many):.2f} | {span} |"


def _p95s(times: list[float]) -> list[float]:
    """Of each window."""
    return [quantiles(times[first : first + _WINDOW], n=20)[-1] for first in range(0, len(times), _WINDOW)]


def _searches(url: str, sizes: Sizes) -> list[str]:
    store = ConversationStore(url, KEY)
    filling = [_seconds(partial(store.search, Wanted(words=(_RARE,)), 50))]
    while _lags(url):
        filling.append(_seconds(partial(store.search, Wanted(words=(_RARE,)), 50)))
    lines = [f"| `chatbot logs` over {sizes.long:,} rows, the latest 50 | ms |", "|---|--:|"]
    for name, wanted in (
        ("nothing asked", Wanted()),
        ("one platform", Wanted(platform=_PLATFORM)),
        ("a rare word", Wanted(words=(_RARE,))),
        ("a common word", Wanted(words=("kitchen",))),
        ("two words", Wanted(words=("kitchen", _RARE))),
        ("Chinese, four characters", Wanted(words=(_CHINESE[2:],))),
        ("Chinese, two characters, which no index holds", Wanted(words=(_CHINESE[-2:],))),
        ("a word that is nowhere", Wanted(words=("harpsichord",))),
        ("one chat and a word", Wanted(chat="c1", words=("kitchen",))),
    ):
        times = [_seconds(partial(store.search, wanted, 50)) for _ in range(5)]
        lines.append(f"| {name} | {1000 * median(times):.1f} |")
    if sqlite_file(url) is not None:
        lines.append(
            f"| the first search: the slowest of {len(filling)} that fill the index | {1000 * max(filling):.0f} |"
        )
    store.close()
    return lines


def _lags(url: str) -> bool:
    """Whether the index of texts lacks some."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            last = connection.scalar(select(func.max(t.message.c.id)))
            return engine.dialect.name == "sqlite" and textindex.mark(connection) < last
    finally:
        engine.dispose()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _kills(outcome: Outcome, sizes: Sizes) -> list[str]:
    return [
        f"| {outcome.kills} times SIGKILL to 4 processes with {sizes.writers} writers | |",
        "|---|--:|",
        f"| messages acknowledged | {outcome.acknowledged:,} |",
        f"| of these lost | {outcome.lost} |",
        f"| answered twice | {outcome.doubled} |",
        f"| cut off in the call to a platform, told as unknown | {outcome.unknown} |",
        f"| faults that `db check` found after a kill | {len(outcome.problems)} |",
    ]
