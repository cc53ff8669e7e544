"""chatbot logs: the stored conversations, looked through and searched."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters.streams import printable
from chatbot.cli.opening import open_store
from chatbot.errors import UsageError

if TYPE_CHECKING:
    from chatbot.search import Found

_MOST = 1_000_000


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    logs = commands.add_parser(
        "logs",
        help="show and search what was said",
        description="The latest messages that fit, oldest first. Of several words each must be in the text.",
        epilog="Example: chatbot logs --platform telegram --since 2026-05-01 lunch",
    )
    logs.add_argument("words", nargs="*", metavar="WORD", help="only messages that hold it; case does not matter")
    logs.add_argument("--platform", metavar="NAME", help="only of this platform")
    logs.add_argument("--chat", metavar="CHAT", help="only of this chat: its name or pseudonym")
    logs.add_argument("--person", metavar="PSEUDONYM", help="only of this person, with the replies to them")
    logs.add_argument("--since", metavar="TIME", help="only from then on, such as 2026-05-01 or 2026-05-01T12:30 (UTC)")
    logs.add_argument("--until", metavar="TIME", help="only before then")
    logs.add_argument("--rating", choices=("good", "bad", "taught"), help="only replies rated so, or corrected")
    logs.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    logs.add_argument("--json", action="store_true", help="one JSON object a line")
    logs.set_defaults(run=run_logs)


def run_logs(arguments: argparse.Namespace) -> int:
    """`chatbot logs`."""
    if not 1 <= arguments.limit <= _MOST:
        raise UsageError(f"--limit is {arguments.limit}; it must be from 1 to {_MOST}")
    since, until = _moment("--since", arguments.since), _moment("--until", arguments.until)
    words = tuple(word for argument in arguments.words for word in argument.split())
    from chatbot.search import Wanted

    wanted = Wanted(arguments.platform, arguments.chat, arguments.person, since, until, arguments.rating, words)
    found = open_store().search(wanted, arguments.limit)
    for message in found:
        print(_as_json(message) if arguments.json else _line(message))
    if not found:
        print("nothing found", file=sys.stderr)
    return 0


def _moment(option: str, given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {given!r} is no time: write it as 2026-05-01 or 2026-05-01T12:30") from None


def _as_json(message: Found) -> str:
    from dataclasses import asdict

    return json.dumps({**asdict(message), "at": message.at.isoformat()}, ensure_ascii=False)


def _line(message: Found) -> str:
    """For people: one line, whatever is in the text."""
    marks = [] if message.rating is None else [f"{message.rating:+d}"]
    marks += [] if message.taught is None else [f"taught: {message.taught}"]
    who = message.person or message.role
    shown = f"{message.at:%Y-%m-%d %H:%M:%S} #{message.id} {message.platform} {message.chat} {who}: {message.text}"
    return " ".join(printable(shown + (f" ({'; '.join(marks)})" if marks else "")).split())
