"""chatbot doctor, init: what is wrong and what mends it, and a configuration to begin with."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import Finding
from chatbot.cli.opening import open_key
from chatbot.cli.serve import load, section
from chatbot.errors import ChatbotError, UsageError

if TYPE_CHECKING:
    from chatbot.config import Settings

_ENOUGH_BYTES = 500_000_000  # of disk, for the log, copies of the database and a model
_PATIENCE_S = 60.0  # with one platform
_TOKENS = {"telegram": "TELEGRAM_BOT_TOKEN", "discord": "DISCORD_BOT_TOKEN"}


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    doctor = commands.add_parser(
        "doctor",
        help="name what is wrong, and what mends it",
        description="Look at configuration, disk, database, model and platforms. Exit code 1 if something is wrong.",
        epilog="While `chatbot run` is running, it is itself the second program that polls Telegram.",
    )
    doctor.add_argument(
        "names", nargs="*", metavar="NAMES", help="which platforms (default: run.adapters, and those with a token)"
    )
    doctor.set_defaults(run=run_doctor)
    init = commands.add_parser("init", help="write a commented configuration file")
    init.set_defaults(run=run_init)


def run_doctor(arguments: argparse.Namespace) -> int:
    """`chatbot doctor`."""
    from chatbot.config import Settings, load_settings, settings_file

    settings = Settings()
    wrong = 0
    try:
        settings = load_settings()
        findings = [Finding(True, f"the configuration {settings_file()} is fine, or not needed")]
    except UsageError as error:
        findings = [Finding(False, str(error))]
    for finding in _all(findings, settings, arguments.names):
        mend = f": {finding.mend}" if finding.mend else ""
        print(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}{mend}", flush=True)
        wrong += not finding.ok
    return 1 if wrong else 0


def _all(first: Iterable[Finding], settings: Settings, names: Iterable[str]) -> Iterator[Finding]:
    """Each finding as soon as there is one."""
    yield from first
    for look in (_disk, _database, lambda: _model(settings)):
        yield from _carefully(look)
    wanted = list(names) or [
        *settings.run.adapters,
        *(name for name, token in _TOKENS.items() if os.environ.get(token) or os.environ.get(f"{token}_FILE")),
    ]
    if not wanted:
        yield Finding(True, "no platform is set up; set TELEGRAM_BOT_TOKEN or DISCORD_BOT_TOKEN for one")
    for name in dict.fromkeys(wanted):
        yield from _carefully(lambda: _platform(name, settings))  # noqa: B023  called at once


def _carefully(look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except ChatbotError as error:
        return [Finding(False, str(error))]


def _disk() -> list[Finding]:
    from chatbot.config import home

    place = next(folder for folder in (home(), *home().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return [Finding(False, f"{place} is not writable", "set CHATBOT_HOME to a folder of your own")]
    mend = "" if free >= _ENOUGH_BYTES else "free some, or set CHATBOT_HOME to another disk"
    return [Finding(not mend, f"the disk of {place} has {free / 1e9:.1f} GB left", mend)]


def _database() -> list[Finding]:
    from chatbot.config import database_url
    from chatbot.database import place
    from chatbot.schema import check

    open_key()
    problems = check(database_url())
    if problems:
        return [Finding(False, problem, "put the last backup in its place") for problem in problems]
    return [Finding(True, f"{place(database_url())} is whole and up to date")]


def _model(settings: Settings) -> list[Finding]:
    from chatbot.engine import load_engine

    chat = settings.chat
    engine = load_engine(chat.model, device=chat.device, settings=chat.decoding)
    try:
        reply = engine.reply_sync([], "hi")
    finally:
        engine.close()
    return [Finding(True, f"the model {reply.model_id} answers, in {reply.duration_ms:.0f} ms")]


def _platform(name: str, settings: Settings) -> list[Finding]:
    diagnose = load(name, "diagnose")
    if diagnose is None:
        return [Finding(True, f"{name}: nothing to look at")]

    async def look() -> list[Finding]:
        async with asyncio.timeout(_PATIENCE_S):
            return list(await diagnose(section(settings, name)))

    try:
        return [Finding(found.ok, f"{name}: {found.what}", found.mend) for found in asyncio.run(look())]
    except TimeoutError:
        return [Finding(False, f"{name}: no answer in {_PATIENCE_S:g} s", "check the network and its address")]


def run_init(arguments: argparse.Namespace) -> int:
    """`chatbot init`."""
    from chatbot.config import settings_file

    target = settings_file()
    template = Path(__file__).resolve().parent.parent / "defaults.yaml"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(template.read_text("utf-8"))
    except FileExistsError:
        raise UsageError(f"{target} exists already: change it, or move it away and run `chatbot init` again") from None
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written ({error.strerror}): set CHATBOT_CONFIG to a file in a folder of yours"
        ) from error
    print(f"{target} is written: each key stands there with its default, to be changed")
    print("next: set TELEGRAM_BOT_TOKEN or DISCORD_BOT_TOKEN, then `chatbot doctor`, then `chatbot run telegram`")
    return 0
