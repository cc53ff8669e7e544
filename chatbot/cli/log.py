"""chatbot db, stats: the stored conversations."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from chatbot.cli.opening import make_home, open_store


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    stats = commands.add_parser("stats", help="what the store holds", description="Counts; no text.")
    stats.add_argument("--json", action="store_true", help="one JSON object")
    stats.set_defaults(run=run_stats)
    database = commands.add_parser("db", help="upgrade, check or back up the database")
    actions = database.add_subparsers(dest="action", metavar="ACTION", required=True)
    upgrade = actions.add_parser("upgrade", help="bring the database to this program's revision, after a backup")
    upgrade.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    upgrade.set_defaults(run=run_upgrade)
    actions.add_parser("check", help="look for damage").set_defaults(run=run_check)
    backup = actions.add_parser("backup", help="copy the SQLite database while it is in use")
    backup.add_argument("path", metavar="PATH", help="the new file")
    backup.set_defaults(run=run_backup)


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


def run_upgrade(arguments: argparse.Namespace) -> int:
    """`chatbot db upgrade`."""
    from chatbot.config import database_url
    from chatbot.schema import upgrade

    make_home()
    copy = upgrade(database_url())
    if copy is not None:
        print(f"upgraded; the database as it was is kept in {copy}")
    elif not arguments.quiet:
        print("the database is current")
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """`chatbot db check`; exit code 1 if something is wrong."""
    from chatbot.config import database_url
    from chatbot.schema import check

    problems = check(database_url())
    print("\n".join(problems) if problems else "the database is sound")
    return 1 if problems else 0


def run_backup(arguments: argparse.Namespace) -> int:
    """`chatbot db backup`."""
    from chatbot.config import database_url
    from chatbot.schema import backup

    backup(database_url(), Path(arguments.path))
    print(f"backed up to {arguments.path}")
    return 0
