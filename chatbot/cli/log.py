"""chatbot stats: what is stored, in numbers."""

from __future__ import annotations

import argparse
import json
from typing import Any

from chatbot.cli.opening import open_store


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    stats = commands.add_parser("stats", help="what the store holds", description="Counts; no text.")
    stats.add_argument("--json", action="store_true", help="one JSON object")
    stats.set_defaults(run=run_stats)


def run_stats(arguments: argparse.Namespace) -> int:
    """`chatbot stats`."""
    from dataclasses import fields

    from chatbot.config import load_settings

    found = open_store().stats(load_settings().learn.policy)
    stats = {field.name: getattr(found, field.name) for field in fields(found)}
    if arguments.json:
        print(json.dumps(stats))
        return 0
    for name, value in stats.items():
        shown = ", ".join(f"{key}: {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        print(f"{name.replace('_', ' '):12} {shown or 0}")
    return 0
