"""A terminal chat on a store in memory and a scripted engine, for tests that need a process of its own.

Usage: terminal_main.py [--json] [--history FILE]. Says "bye" on stderr when it has left in good order.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from fakes import ScriptedEngine, WordRules

from adapters.terminal import TerminalAdapter
from chatbot.conversation import Conversations
from chatbot.errors import UsageError
from chatbot.store import ConversationStore


def main() -> int:
    """Chat; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--history", type=Path)
    arguments = parser.parse_args()
    store = ConversationStore("sqlite://", b"k" * 32)
    engine = ScriptedEngine(UsageError("temperature is 50;\nit must be from 0 to 10"))
    adapter = TerminalAdapter(as_json=arguments.json, history_file=arguments.history, greeting="welcome\x1b[2J")
    asyncio.run(adapter.run(Conversations(store, engine, WordRules()).answer))
    store.close()
    print("bye", file=sys.stderr)
    return adapter.exit_code


if __name__ == "__main__":
    sys.exit(main())
