"""chatbot stats: what is stored, in numbers."""

from __future__ import annotations

import argparse
import json
from typing import Any

from chatbot.cli.opening import open_store


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    stats = commands.add_parser("stats", help="what the store holds", description="Counts; no text.")
    stats.add_argument(
        "--learnable", action="store_true", help="also how much of it may be learnt from; reads the whole log"
    )
    stats.add_argument("--json", action="store_true", help="one JSON object")
    stats.set_defaults(run=run_stats)


def run_stats(arguments: argparse.Namespace) -> int:
    """`chatbot stats`."""
    from dataclasses import asdict

    from chatbot.config import load_settings

    store = open_store()
    stats = asdict(store.stats())
    if arguments.learnable:
        learn = load_settings().learn
        pairs = store.learnable_pairs(learn.policy, 1, learn.block)
        stats |= {"learnable": sum(1 for _ in pairs), "left_out": pairs.left_out}
    if arguments.json:
        print(json.dumps(stats))
        return 0
    for name, value in stats.items():
        shown = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        print(f"{name.replace('_', ' '):12} {shown or 0}")
    return 0
