"""The command line: the composition root, and the only printer besides the terminal adapter.

One module a command group, imported when one of its commands is called; each adds its parsers and imports what a
command needs inside that command's function. So `chatbot --help` loads no model library, and a reply no other command.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from adapters.streams import is_terminal, never_fail_to_encode
from chatbot.cli.journal import log_to_stderr
from chatbot.errors import ChatbotError, UsageError

_GROUPS = {
    "talk": ("chat", "reply"),
    "serve": ("run", "discord-sync"),
    "learn": ("train", "evaluate", "retrain"),
    "lint": ("lint",),
    "models": ("models",),
    "transfer": ("export", "import"),
    "log": ("stats",),
    "logs": ("logs",),
    "people": ("mydata", "forget", "expire", "consent"),
    "care": ("doctor", "init"),
    "database": ("db",),
}


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Every command with its help; or, if `command` is one, only those of its group."""
    parser = _Parser(
        prog="chatbot",
        description="Familect, a chatbot that learns to talk like your people.",
        epilog="Start with `chatbot chat`. Each command explains itself: chatbot COMMAND --help",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback behind an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = [group for group, names in _GROUPS.items() if command in names]
    for group in asked or _GROUPS:
        importlib.import_module(f"chatbot.cli.{group}").add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 ran but something failed, 2 wrong use or configuration, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    parsed = build_parser(next((word for word in words if not word.startswith("-")), None)).parse_args(arguments)
    log_to_stderr()
    if not parsed.debug:
        warnings.simplefilter("ignore")
    try:
        code = int(parsed.run(parsed))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except ChatbotError as error:
        if parsed.debug:
            raise
        print(f"chatbot: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        _let_go_of_output()  # its reader left, as `head` does
        return 0
    except OSError as error:
        if parsed.debug:
            raise
        _let_go_of_output()
        place = error.filename2 or error.filename or "the output"
        print(
            f"chatbot: {place}: {error.strerror}; check the path, its permissions and the space left", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        print("chatbot: interrupted", file=sys.stderr)
        return 130


def _let_go_of_output() -> None:
    """What could not be printed must not be tried again, and complained about, when Python exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def entry_point() -> None:
    """The console script."""
    never_fail_to_encode(is_terminal(sys.stdout))
    sys.exit(main())
