"""chatbot db upgrade, check, backup, restore, copy: the database as such, not what is in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from chatbot.cli.opening import make_home


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    database = commands.add_parser("db", help="upgrade, check, back up, restore or move the database")
    actions = database.add_subparsers(dest="action", metavar="ACTION", required=True)
    upgrade = actions.add_parser("upgrade", help="bring the database to this program's revision, after a backup")
    upgrade.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    upgrade.set_defaults(run=run_upgrade)
    actions.add_parser("check", help="look for damage").set_defaults(run=run_check)
    backup = actions.add_parser("backup", help="copy the SQLite database while it is in use")
    backup.add_argument("path", metavar="PATH", help="the new file")
    backup.set_defaults(run=run_backup)
    restore = actions.add_parser("restore", help="put a backup in the database's place, even while it is in use")
    restore.add_argument("path", metavar="PATH", help="the backup")
    restore.set_defaults(run=run_restore)
    copy = actions.add_parser(
        "copy",
        help="move the store to another database",
        description="Copy every row of one database into another that is empty, such as a file into PostgreSQL.",
        epilog="Example: chatbot db copy sqlite:///chatbot.db postgresql://me@host/chatbot",
    )
    copy.add_argument("source", metavar="FROM", help="the database's url")
    copy.add_argument("target", metavar="TO", help="the url of an empty one")
    copy.set_defaults(run=run_copy)


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
    from chatbot.copies import Copies
    from chatbot.schema import backup

    backup(database_url(), Path(arguments.path))
    Copies(make_home()).remember(Path(arguments.path), whole=True)
    print(f"backed up to {arguments.path}")
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """`chatbot db restore`."""
    from chatbot.config import database_url
    from chatbot.schema import check, restore

    make_home()
    kept = restore(database_url(), Path(arguments.path))
    print(f"restored from {arguments.path}" + (f"; what was there is kept in {kept}" if kept else ""))
    print("\n".join(check(database_url())) or "the database is sound")
    return 0


def run_copy(arguments: argparse.Namespace) -> int:
    """`chatbot db copy`."""
    from chatbot.transfer import copy_database

    copied = copy_database(arguments.source, arguments.target)
    print(f"{sum(copied.values())} rows copied, {copied['message']} messages among them")
    print("now set CHATBOT_DATABASE_URL to the new place; identity.key belongs to it")
    return 0
