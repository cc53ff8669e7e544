"""A terminal chat with a scripted engine, for tests that need a process of its own.

Usage: terminal_main.py [--spine] [--json] [--history FILE]. With --spine the whole path is there, on a store in memory;
without it the adapter alone, which starts in half the time. Says "bye" on stderr when it has left in good order.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from fakes import MemorySpine, ScriptedEngine, WordRules

from adapters.base import Answering
from adapters.terminal import TerminalAdapter
from chatbot.errors import UsageError
from chatbot.guard import GuardedEngine
from chatbot.messages import Message, Reply


def spine(engine: ScriptedEngine) -> Answering:
    """Conversations on a store in memory."""
    from chatbot.conversation import Conversations
    from chatbot.store import ConversationStore

    return Conversations(ConversationStore("sqlite://", b"k" * 32), GuardedEngine(engine, WordRules()))


def main() -> int:
    """Chat; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spine", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--history", type=Path)
    arguments = parser.parse_args()
    engine = ScriptedEngine(UsageError("temperature is 50;\nit must be from 0 to 10"))

    async def alone(message: Message) -> Reply:
        return await engine.reply([], message.text, options=message.options)

    adapter = TerminalAdapter(as_json=arguments.json, history_file=arguments.history, greeting="welcome\x1b[2J")
    asyncio.run(adapter.run(spine(engine) if arguments.spine else MemorySpine(alone)))
    sys.stderr.write("bye\n")
    return adapter.exit_code


if __name__ == "__main__":
    sys.exit(main())
