"""chatbot mydata, forget, expire, consent: what people may ask of whoever runs the bot, and the proof of it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chatbot.cli.opening import erase_what_is_too_old, open_registry, open_store, whole_copies
from chatbot.errors import UsageError

if TYPE_CHECKING:
    from chatbot.lineage import Ground, Speaker
    from chatbot.rights import Erasure


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    mine = commands.add_parser(
        "mydata",
        help="all that is kept of a person",
        description="All that is kept of a person, to be handed to them: one line each, oldest first.",
        epilog="Example: chatbot mydata telegram 123456789 --json > their-data.jsonl",
    )
    _add_who(mine)
    mine.add_argument("--json", action="store_true", help="one JSON object a line")
    mine.set_defaults(run=run_mydata)
    forget = commands.add_parser(
        "forget",
        help="erase a person's words",
        description="Erase a person's words, the replies to them, corrections, and the copies in files of ours; mark "
        "the models that had learnt from them. As /forget does, for those who cannot write it.",
    )
    _add_who(forget)
    forget.add_argument("--message", metavar="ID", help="only this message, by its id in --chat")
    forget.add_argument(
        "--delete-copies", action="store_true", help="delete all our backups, and exports that cannot be cleaned, too"
    )
    forget.set_defaults(run=run_forget)
    expire = commands.add_parser(
        "expire",
        help="erase what is older than the retention allows",
        description="Erase words older than retention.days, delete backups older than retention.copies_days, and "
        "clean every copy. `chatbot run` does it when it starts; for one that runs on, call this once a day.",
    )
    expire.set_defaults(run=run_expire)
    consent = commands.add_parser("consent", help="on what ground a model learnt")
    actions = consent.add_subparsers(dest="action", metavar="ACTION", required=True)
    report = actions.add_parser(
        "report",
        help="the proof: each row a model learnt from, and under which consent",
        description="Each row that a model learnt from, itself or through its parents, and under which consent, as the "
        "ledger stood when it was read. Numbers of rows, people and consents; no text. Exit code 1 if one has none.",
    )
    report.add_argument("model", metavar="MODEL", help="a registry id")
    report.add_argument("--json", action="store_true", help="one JSON object a row")
    report.set_defaults(run=run_report)


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("platform", metavar="PLATFORM", help="such as telegram; the person at a terminal is operator")
    parser.add_argument("person", metavar="PERSON", help="the person's id on the platform")
    parser.add_argument("--chat", metavar="ID", help="only in this chat, by its id on the platform")


def run_mydata(arguments: argparse.Namespace) -> int:
    """`chatbot mydata`; exit code 1 if nothing is kept."""
    records = open_store().my_data(arguments.platform, arguments.person, arguments.chat)
    for record in records:
        if arguments.json:
            print(json.dumps({**asdict(record), "at": record.at.isoformat()}, ensure_ascii=False))
        else:
            print(f"{record.at:%Y-%m-%d %H:%M} {record.kind}: {' '.join(record.text.split())}")
    if not records:
        print("nothing is kept of this person", file=sys.stderr)
    return 0 if records else 1


def run_forget(arguments: argparse.Namespace) -> int:
    """`chatbot forget`; exit code 1 if there was nothing to erase."""
    if arguments.message and not arguments.chat:
        raise UsageError("a message's id says nothing without its chat; add --chat ID")
    erased = open_store().forget(arguments.platform, arguments.person, arguments.chat, arguments.message)
    _tell(erased)
    copies = whole_copies()
    for path in copies:
        if arguments.delete_copies:
            path.unlink(missing_ok=True)
        print(f"{'deleted' if arguments.delete_copies else 'not cleaned, may hold them'}: {path}")
    return 0 if erased.messages + erased.replies + erased.corrections else 1


def run_expire(arguments: argparse.Namespace) -> int:
    """`chatbot expire`."""
    store = open_store()
    erased, copies = erase_what_is_too_old(store)
    _tell(erased)
    for path in copies:
        print(f"deleted: {path}")
    print(f"copies cleaned: {store.clean_copies()}")
    return 0


def _tell(erased: Erasure) -> None:
    print(f"erased: messages {erased.messages}, replies {erased.replies}, corrections {erased.corrections}")
    for model in erased.tainted_models:
        print(f"tainted: {model}; the next `chatbot retrain` starts from a model that is not")


def run_report(arguments: argparse.Namespace) -> int:
    """`chatbot consent report`; exit code 1 if a row has no ground."""
    from chatbot.config import load_settings

    grounds = open_store().grounds(arguments.model, load_settings().learn.policy)
    if not grounds:
        open_registry().path(arguments.model)  # says what there is if there is no such model
    for ground in grounds:
        print(json.dumps(asdict(ground), default=datetime.isoformat) if arguments.json else _line(ground))
    wrong = sum(ground.problem is not None for ground in grounds)
    print(f"{arguments.model}: learnt from {len(grounds)} rows of this log, {wrong} without a ground", file=sys.stderr)
    return 1 if wrong else 0


def _line(ground: Ground) -> str:
    parts = [
        f"message {ground.message}",
        ground.model,
        f"data set {ground.dataset}",
        f"{ground.platform}: {ground.rule}",
    ]
    if ground.batch is not None:
        parts.append(f"import {ground.batch}")
    parts += map(_who, ground.speakers)
    if ground.erased:
        parts.append("erased since")
    if ground.problem is not None:
        parts.append(f"NO GROUND: {ground.problem}")
    return "  ".join(parts)


def _who(speaker: Speaker) -> str:
    then, now = speaker.then, speaker.now
    shown = f"person {speaker.person}: no consent asked"
    if then is not None:
        word = "given" if then.given else "refused"
        shown = (
            f"person {speaker.person}: consent {then.id} {word} {then.at:%Y-%m-%d %H:%M} ({then.how}, {then.wording})"
        )
    if now is not None and now != then and not now.given:
        shown += f", withdrawn by {now.id}"
    return shown
