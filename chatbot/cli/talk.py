"""chatbot chat, reply: where somebody gets an answer."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from chatbot.cli.opening import erase_what_is_too_old, open_store
from chatbot.errors import ChatbotError, UsageError

if TYPE_CHECKING:
    from adapters.terminal import TerminalAdapter
    from chatbot.engine import Engine
    from chatbot.store import ConversationStore

_LARGEST_SEED = 2**63 - 1  # what a database keeps
_AT_ONCE = 64  # lines of --jsonl that may wait for their replies, so that the engine can batch them


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    chat = commands.add_parser(
        "chat",
        help="talk in the terminal",
        description="Talk in the terminal. When stdin is not a terminal: one line in, one line out, nothing else.",
        epilog="In the chat: /help lists the commands, Ctrl-D leaves.",
    )
    chat.add_argument("-c", "--continue", dest="resume", action="store_true", help="go on with the last chat")
    chat.add_argument("--chat", metavar="NAME", help="go on with, or start, the chat of this name")
    chat.add_argument("--no-log", action="store_true", help="keep nothing of this chat")
    chat.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    _add_engine_arguments(chat)
    chat.set_defaults(run=run_chat)
    reply = commands.add_parser(
        "reply",
        help="one reply on stdout",
        description="One reply on stdout, or with --jsonl one for each line of stdin.",
        epilog='Example: echo \'{"id": 1, "turns": ["hi"]}\' | chatbot reply --jsonl',
    )
    reply.add_argument("text", nargs="?", metavar="TEXT", help="what to answer (default: stdin)")
    reply.add_argument("--jsonl", action="store_true", help='stdin holds lines {"id", "turns": ["...", ...]}')
    _add_engine_arguments(reply)
    reply.set_defaults(run=run_reply)


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="ID-or-path", help='a registry id, a model folder, "retrieval" or "echo"')
    parser.add_argument("--seed", type=_seed, metavar="N", help="the same seed gives the same replies")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="decode settings, such as top_k=20"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where the model runs")


def _seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 0 to {_LARGEST_SEED}")
    return number


def _open_engine(arguments: argparse.Namespace) -> Engine:
    from chatbot.config import load_settings, parse_assignments
    from chatbot.engine import load_engine

    chat = load_settings().chat
    return load_engine(
        arguments.model or chat.model,
        device=arguments.device or chat.device,
        settings={**chat.decoding, **parse_assignments(arguments.set)},
        seed=arguments.seed,
    )


def run_chat(arguments: argparse.Namespace) -> int:
    """`chatbot chat`."""
    import asyncio

    from chatbot.config import load_settings
    from chatbot.conversation import Conversations

    settings = load_settings()
    store = _private_store() if arguments.no_log else open_store()
    try:
        if not arguments.no_log:
            erase_what_is_too_old(store)
        adapter = _terminal(arguments, store)
        engine = _open_engine(arguments)
        try:
            conversations = Conversations(
                store, engine, settings.chat.history_turns, settings.learn.policy, settings.retention.days
            )
            asyncio.run(adapter.run(conversations))
        finally:
            engine.close()
    finally:
        store.close()
    return adapter.exit_code


def _private_store() -> ConversationStore:
    """A store in memory with a key of its own: the chat works as ever, and nothing of it is kept."""
    import secrets

    from chatbot.store import ConversationStore

    return ConversationStore("sqlite://", secrets.token_bytes(32))


def _terminal(arguments: argparse.Namespace, store: ConversationStore) -> TerminalAdapter:
    from adapters.terminal import TerminalAdapter
    from chatbot.config import home
    from chatbot.wording import ENGLISH

    name = arguments.chat
    if arguments.resume and not name:
        name = store.latest_chat("terminal")
        if name is None:
            raise UsageError("there is no chat to go on with yet; start one with `chatbot chat`")
    name = name or f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}"
    return TerminalAdapter(
        name,
        as_json=arguments.json,
        history_file=None if arguments.no_log else home() / "history",
        greeting=None if store.knows_chat("terminal", name) else ENGLISH.first_contact,
    )


def run_reply(arguments: argparse.Namespace) -> int:
    """`chatbot reply`; exit code 1 if a line of --jsonl was bad."""
    text = arguments.text
    if arguments.jsonl and text is not None:
        raise UsageError(f"--jsonl reads what to answer from stdin; leave {text[:40]!r} out, or --jsonl")
    if not arguments.jsonl and text is None:
        text = sys.stdin.buffer.read().decode("utf-8", "replace") if sys.stdin is not None else ""
    if not arguments.jsonl and not text.strip():
        raise UsageError('nothing to answer; try chatbot reply "hi", or pipe a text in')
    engine = _open_engine(arguments)
    try:
        if arguments.jsonl:
            import asyncio

            return asyncio.run(_reply_lines(engine))
        print(engine.reply_sync([], text).text)
        return 0
    finally:
        engine.close()


async def _reply_lines(engine: Engine) -> int:
    """Answer each line as it comes, print in order; what waits is answered together."""
    import asyncio

    waiting: asyncio.Queue[asyncio.Task[dict[str, Any]] | None] = asyncio.Queue(_AT_ONCE)

    async def read() -> None:
        while sys.stdin is not None and (line := await asyncio.to_thread(sys.stdin.buffer.readline)):
            if line.strip():
                await waiting.put(asyncio.create_task(_reply_line(engine, line)))
        await waiting.put(None)

    reading = asyncio.create_task(read())
    failed = False
    while (task := await waiting.get()) is not None:
        answer = await task
        failed |= "error" in answer
        # An id may hold a lone surrogate: it goes out as the JSON escape that it came in as.
        print(json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace").decode(), flush=True)
    await reading
    return 1 if failed else 0


async def _reply_line(engine: Engine, line: bytes) -> dict[str, Any]:
    record_id: Any = None
    try:
        record = json.loads(line.decode("utf-8-sig"))
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        record_id = record.get("id")
        turns = record.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
            raise ValueError('"turns" is not a list of at least one text')
        if not turns[-1].strip():
            raise ValueError("the last turn is empty")
    except (ValueError, RecursionError) as error:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
        return {"id": record_id, "error": "not UTF-8" if isinstance(error, UnicodeDecodeError) else reason}
    try:
        reply = await engine.reply(turns[:-1], turns[-1])
    except ChatbotError as error:
        return {"id": record_id, "error": str(error)}
    return {"id": record_id, "reply": reply.text, "model": reply.model_id, "ms": round(reply.duration_ms, 2)}
