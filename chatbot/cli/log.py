"""chatbot export, import, stats: the stored conversations."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from chatbot.cli.opening import open_store, read_through, tell_left_out, tell_of


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    export = commands.add_parser(
        "export",
        help="write what may be learnt from as a dialogue file",
        description="Write every pair of the log that may be learnt from, with its row ids, as JSONL. How many were "
        "left out, and why, is said on stderr.",
    )
    export.add_argument("path", nargs="?", metavar="PATH", help="the file to write (default: stdout)")
    export.set_defaults(run=run_export)
    importing = commands.add_parser(
        "import",
        help="bring dialogues into the store",
        description='Store dialogues from files. Format jsonl: one {"turns": ["...", ...]} a line, optionally .zst.',
        epilog='Example: chatbot import jsonl talk.jsonl --consent "our own chat, both of us agreed"',
    )
    importing.add_argument("format", choices=("jsonl",), help="the files' format")
    importing.add_argument("paths", nargs="+", metavar="PATH")
    importing.add_argument(
        "--consent", metavar="TEXT", help="whose words these are and on what basis; without it nothing is learnt from"
    )
    importing.add_argument("--dry-run", action="store_true", help="say what would be stored, store nothing")
    importing.set_defaults(run=run_import)
    stats = commands.add_parser("stats", help="what the store holds", description="Counts; no text.")
    stats.add_argument("--json", action="store_true", help="one JSON object")
    stats.set_defaults(run=run_stats)


def run_export(arguments: argparse.Namespace) -> int:
    """`chatbot export`."""
    import tempfile

    from chatbot.config import load_settings
    from training.export import export_pairs

    with tempfile.TemporaryDirectory() as scratch:
        target = Path(arguments.path) if arguments.path else Path(scratch) / "log.jsonl"
        kept = bool(arguments.path)
        snapshot = export_pairs(open_store(), load_settings().learn, target, 6, name="export", kept=kept)
        if not arguments.path:
            # Not splitlines: what people wrote may hold other line separators than the file's.
            with target.open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    print(line, end="")
    print(f"{len(snapshot.pairs)} pairs, sha256 {snapshot.sha256}", file=sys.stderr)
    tell_of(snapshot)
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """`chatbot import`; exit code 1 if some lines were left out."""
    from training.corpus import read_dialogues

    paths = [Path(path) for path in arguments.paths]
    report = read_through(paths)  # first: of a file that is cut off, nothing is stored
    if not arguments.dry_run:
        store = open_store()
        for path in paths:
            batch = store.record_import(path.name, arguments.consent)
            for dialogue in read_dialogues([path]):
                store.add_imported_dialogue(batch, dialogue.turns, dialogue.id)
    done = "would be stored" if arguments.dry_run else "stored"
    print(f"{report.dialogues} dialogues with {report.turns} turns {done}")
    if not arguments.consent:
        print(
            'none of it will be learnt from: say whose words these are with --consent "whose words, on what basis"',
            file=sys.stderr,
        )
    tell_left_out(report.problems, report.skipped)
    return 1 if report.skipped else 0


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
