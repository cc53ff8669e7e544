"""What several commands open first: the state folder, the store behind a current database, the registry, data."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatbot.errors import UsageError

if TYPE_CHECKING:
    from chatbot.registry import Registry
    from chatbot.store import ConversationStore
    from training.corpus import ReadReport


def make_home() -> Path:
    """The state folder, made if it is not there; UsageError if it cannot be."""
    from chatbot.config import home

    try:
        home().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {home()} cannot be made ({error.strerror}): set CHATBOT_HOME to a folder of your own"
        ) from error
    return home()


def open_store() -> ConversationStore:
    """The configured database; DatabaseOutdatedError if it is behind or ahead of this code."""
    from chatbot.config import database_url
    from chatbot.identity import load_key
    from chatbot.schema import require_current
    from chatbot.store import ConversationStore

    home = make_home()
    require_current(database_url())
    return ConversationStore(database_url(), load_key(home))


def open_registry() -> Registry:
    """The models under the home folder."""
    from chatbot.config import home
    from chatbot.registry import Registry

    return Registry(home())


def read_through(paths: Sequence[Path]) -> ReadReport:
    """What dialogue files hold, before anything is done with it; UsageError if one cannot be read to its end."""
    from training.corpus import ReadReport, read_dialogues

    report = ReadReport()
    for _ in read_dialogues(paths, report):
        pass
    return report


def tell_left_out(problems: Sequence[str], counts: Mapping[str, int]) -> None:
    """Say on stderr which lines of data were left out and why: the first few by name, the others by number."""
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    others = sum(counts.values()) - len(problems)
    if others > 0:
        print(f"left out: {others} more lines", file=sys.stderr)
