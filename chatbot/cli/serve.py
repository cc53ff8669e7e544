"""chatbot run: the platforms in one process, over one store and one loaded model."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from adapters import ADAPTERS, ENTRY_POINTS
from chatbot.cli.journal import tell_all
from chatbot.cli.opening import erase_what_is_too_old, open_store
from chatbot.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from adapters.base import Adapter, Spine
    from chatbot.config import Settings
    from chatbot.store import ConversationStore


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    run = commands.add_parser(
        "run",
        help="answer on Telegram, Discord and other platforms",
        description="Run adapters in one process over one loaded model, until SIGTERM or Ctrl-C.",
        epilog="Tokens are read from the environment: TELEGRAM_BOT_TOKEN, DISCORD_BOT_TOKEN.",
    )
    run.add_argument("names", nargs="*", metavar="NAMES", help="which adapters (default: those of run.adapters)")
    run.set_defaults(run=run_adapters)
    sync = commands.add_parser(
        "discord-sync",
        help="tell Discord the slash commands",
        description="Tell Discord the slash commands, once after setting up and after each update of Familect.",
    )
    sync.set_defaults(run=run_discord_sync)


def known_adapters() -> dict[str, EntryPoint | str]:
    """Every adapter by name: ours, and what other packages bring."""
    from importlib.metadata import entry_points

    brought = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    return {**brought, **ADAPTERS}


def load(name: str, attribute: str | None = None) -> Any:
    """An adapter's factory, or what its module calls `attribute`, None if nothing.

    UsageError for an adapter that is not known or cannot be imported.
    """
    known = known_adapters()
    if name not in known:
        raise UsageError(f"there is no adapter {name[:40]!r}; known: {', '.join(sorted(known))}")
    place = known[name]
    module, _, factory = (place if isinstance(place, str) else place.value).partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"the adapter {name!r} cannot be imported ({error}): install what it needs") from error
    return getattr(found, attribute or factory, None)


def section(settings: Settings, name: str) -> Mapping[str, object]:
    """The part of the configuration that is the adapter's own."""
    own = {"telegram": asdict(settings.telegram), "discord": asdict(settings.discord)}
    return own[name] if name in own else settings.platforms.get(name, {})


def run_discord_sync(arguments: argparse.Namespace) -> int:
    """`chatbot discord-sync`."""
    from adapters.discord import sync_commands
    from chatbot.config import load_settings

    count = asyncio.run(sync_commands(section(load_settings(), "discord")))
    print(f"Discord knows {count} commands now")
    return 0


def run_adapters(arguments: argparse.Namespace) -> int:
    """`chatbot run`."""
    from chatbot.config import load_settings
    from chatbot.conversation import Conversations
    from chatbot.engine import load_engine

    settings = load_settings()
    names = list(dict.fromkeys(arguments.names or settings.run.adapters))
    if not names:
        raise UsageError("nothing to run: name adapters, such as `chatbot run telegram`, or list them in run.adapters")
    tell_all()
    # Everything that can be wrong is found before anything is opened or loaded.
    makers = [_maker(name, settings) for name in names]
    store = open_store()
    try:
        erase_what_is_too_old(store)
        store.clean_copies()  # of what was forgotten when the process died before it came to them
        adapters = [make(store) for make in makers]
        chat = settings.chat
        engine = load_engine(chat.model, device=chat.device, settings=chat.decoding)
        try:
            engine.reply_sync([], "hi")  # Loads the live model, and finds out now what is wrong with it.
            settle()
            conversations = Conversations(
                store, engine, chat.history_turns, settings.learn.policy, settings.retention.days
            )
            asyncio.run(_serve(adapters, conversations, settings.run.drain_seconds))
        finally:
            engine.close()
    finally:
        store.close()
    return 0


def settle() -> None:
    """Take what is loaded by now for what stays: looking through all of it for garbage would hold up the event loop.

    What comes later and stays, as with hundreds of conversations, is looked through a hundred times more seldom than
    by default: with 200 at once that took a tenth of a second. What goes soon is found as before.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 1000)


def _maker(name: str, settings: Settings) -> Callable[[ConversationStore], Adapter]:
    """What makes an adapter once there is a store; all but the terminal's do without."""
    from adapters.admission import Admission

    factory = load(name)
    if name == "terminal":
        return _terminal
    admission = Admission(settings.access, settings.limits)
    adapter: Adapter = factory(section(settings, name), admission, settings.run.drain_seconds)
    return lambda store: adapter


def _terminal(store: ConversationStore) -> Adapter:
    """A new chat in this terminal, beside the platforms."""
    from adapters.terminal import TerminalAdapter
    from chatbot.config import home
    from chatbot.wording import ENGLISH

    name = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}"
    return TerminalAdapter(name, history_file=home() / "history", greeting=ENGLISH.first_contact)


async def _serve(adapters: Sequence[Adapter], spine: Spine, drain_seconds: float) -> None:
    """Run until all have ended or a signal comes. In a terminal chat Ctrl-C means the reply, so it stays with that."""
    from adapters.supervision import Backoff, Supervisor

    supervisor = Supervisor(adapters, spine, drain_seconds, Backoff())
    loop = asyncio.get_running_loop()
    signals = [signal.SIGTERM]
    if all(adapter.name != "terminal" for adapter in adapters):
        signals.append(signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run()
