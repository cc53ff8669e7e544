"""chatbot export, import: conversations out of the store and into it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.cli.opening import open_store, tell_left_out, tell_of
from chatbot.importers import EXPORT_NAMES, FORMAT_NAMES

if TYPE_CHECKING:
    from chatbot.importers.records import Report

_SHOWN_SPEAKERS = 10
_CONTEXT_TURNS = 6


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    export = commands.add_parser(
        "export",
        help="write what may be learnt from, or the whole log, as a file",
        description="Write every pair of the log that may be learnt from. How many were left out, and why, is said on "
        "stderr. Format log: all that is stored of conversations, which `chatbot import log` puts back.",
    )
    export.add_argument("path", nargs="?", metavar="PATH", help="the file to write (default: stdout)")
    export.add_argument("--format", choices=EXPORT_NAMES, default="jsonl", help="default: jsonl, dialogue files")
    export.set_defaults(run=run_export)
    importing = commands.add_parser(
        "import",
        help="bring conversations into the store",
        description="Store conversations from files, plain or compressed as .zst or .gz. Nothing is stored twice.",
        epilog='Example: chatbot import telegram result.json --consent "our own chat, both of us agreed"',
    )
    importing.add_argument("format", choices=FORMAT_NAMES, help="the files' format")
    importing.add_argument("paths", nargs="+", metavar="PATH")
    importing.add_argument(
        "--consent", metavar="TEXT", help="whose words these are and on what basis; without it nothing is learnt from"
    )
    importing.add_argument("--dry-run", action="store_true", help="say what would be stored, store nothing")
    importing.set_defaults(run=run_import)


def run_export(arguments: argparse.Namespace) -> int:
    """`chatbot export`."""
    import tempfile

    from chatbot.config import load_settings
    from training.export import export_pairs

    path = Path(arguments.path) if arguments.path else None
    if arguments.format == "log":
        return _export_log(path)
    with tempfile.TemporaryDirectory() as scratch:
        target = path or Path(scratch) / "export"
        kept = path is not None
        learn = load_settings().learn
        snapshot = export_pairs(open_store(), learn, target, _CONTEXT_TURNS, "export", kept, arguments.format)
        if not kept:
            # Not splitlines: what people wrote may hold other line separators than the file's.
            with target.open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    print(line, end="")
    print(f"{snapshot.pairs} pairs, sha256 {snapshot.sha256}", file=sys.stderr)
    tell_of(snapshot)
    return 0


def _export_log(path: Path | None) -> int:
    from chatbot.archive import EXPORTED
    from chatbot.writing import whole_file

    store, counts = open_store(), Counter[str]()
    with whole_file(path) if path else nullcontext(sys.stdout) as stream:
        for kind, record in store.dump():
            counts[kind] += 1
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    if path:
        store.remember_copy(path, whole=True)  # its lines are rows of all kinds: nothing can be taken out of it
    print(", ".join(f"{counts[kind]} {plural}" for kind, plural in EXPORTED.items()), file=sys.stderr)
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """`chatbot import`; exit code 1 if some lines were left out."""
    from chatbot.importers.records import Report

    paths = [Path(path) for path in arguments.paths]
    report = Report()
    if arguments.format == "log":
        _import_log(paths, report, dry_run=arguments.dry_run)
    else:
        _import_talk(arguments, paths, report)
    tell_left_out(report.problems, report.skipped)
    return 1 if report.skipped else 0


def _import_talk(arguments: argparse.Namespace, paths: list[Path], report: Report) -> None:
    from chatbot.importers.bringing import bring_in, look, preview
    from chatbot.importers.formats import FORMATS

    kind = FORMATS[arguments.format]
    look(kind, paths)  # all, first: with a file that cannot be used, nothing is stored
    if arguments.dry_run:
        preview(kind, paths, report)
        print(f"{report.dialogues} dialogues with {report.turns} turns would be stored")
        _describe(report)
    else:
        brought = bring_in(open_store(), kind, paths, arguments.consent, report)
        print(f"{brought.dialogues} dialogues with {brought.turns} turns stored")
        if brought.before:
            print(f"{brought.before} turns were stored before")
    if report.joined:
        print(f"{report.joined} messages joined to the one before, by the same speaker")
    for reason, count in report.notes.items():
        print(f"left out: {count} ({reason})", file=sys.stderr)
    if kind.name == "discord":
        print("Discord forbids learning from its messages: the rule in learn.policy decides", file=sys.stderr)
    elif not arguments.consent:
        print(
            'none of it will be learnt from: say whose words these are with --consent "whose words, on what basis"',
            file=sys.stderr,
        )


def _describe(report: Report) -> None:
    """What a preview shows of chats: no name and no text."""
    for dialect in report.dialects:
        print(f"read as: {dialect}")
    if report.first is not None and report.last is not None:
        print(f"from {report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}")
    if not report.chats:
        return
    print(f"{report.messages} messages, {report.chats} chats, {len(report.speakers)} speakers")
    numbered = sorted(enumerate(report.speakers.values(), start=1), key=lambda speaker: -speaker[1])
    for number, turns in numbered[:_SHOWN_SPEAKERS]:
        print(f"speaker {number}: {turns} turns")
    if len(numbered) > _SHOWN_SPEAKERS:
        print(f"{len(numbered) - _SHOWN_SPEAKERS} more speakers")


def _import_log(paths: list[Path], report: Report, *, dry_run: bool) -> None:
    from chatbot.archive import EXPORTED
    from chatbot.importers.bringing import look_log, read_log

    look_log(paths)
    for path in paths:
        counts = read_log(None if dry_run else open_store(), path, report)
        done = "would be read" if dry_run else "stored"
        print(f"{', '.join(f'{counts[kind]} {plural}' for kind, plural in EXPORTED.items())} {done}")
