"""chatbot lint: is a dialogue file fit to train on?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add this group's parsers."""
    lint = commands.add_parser(
        "lint",
        help="what is wrong with dialogue files",
        description="Read dialogue files and name, with file and line, what makes a bad example: broken lines, turns "
        "that are too long or do not alternate, dialogues that stand twice or nearly twice, replies that stand "
        "everywhere. Then the balance of the whole. Exit code 1 if there is anything to mend.",
        epilog="Example: chatbot lint talk.jsonl --against other-talk.jsonl.zst",
    )
    lint.add_argument("files", nargs="+", metavar="PATH", help="dialogue files (.jsonl), as in docs/dialogue-format.md")
    lint.add_argument(
        "--against", nargs="+", default=[], metavar="PATH", help="files whose dialogues must not come again"
    )
    lint.add_argument("--json", action="store_true", help="one JSON object a finding, and one with the balance")
    lint.set_defaults(run=run_lint)


def run_lint(arguments: argparse.Namespace) -> int:
    """`chatbot lint`; exit code 1 if something was found."""
    from tqdm import tqdm

    from training.lint import Finding, Linter

    linter, found = Linter(), 0

    def tell(finding: Finding) -> None:
        if arguments.json:
            shown = {"path": str(finding.path), "line": finding.line, "problem": finding.problem}
            print(json.dumps(shown, ensure_ascii=False))
        else:
            print(f"{finding.path}:{finding.line}: {finding.problem}")

    for path in map(Path, arguments.files):
        for finding in linter.read(path):
            tell(finding)
            found += 1
    for finding in linter.repeated():
        tell(finding)
        found += 1
    # One file may hold a hundred thousand dialogues: whoever waits sees that something happens.
    for path in tqdm(arguments.against, unit="file", disable=None, file=sys.stderr):
        for finding in linter.against([Path(path)]):
            tell(finding)
            found += 1
    rows = dict(linter.balance.rows())
    if arguments.json:
        print(json.dumps({"balance": {name.strip(): value for name, value in rows.items()}}, ensure_ascii=False))
    else:
        print("\n".join(f"{name:32} {value:>10}" for name, value in rows.items()), file=sys.stderr)
        print(f"{found} to mend" if found else "nothing to mend", file=sys.stderr)
    return 1 if found else 0
