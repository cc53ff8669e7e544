"""What several commands open first: the state folder, the store behind a current database, the registry, data."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatbot.errors import UsageError

if TYPE_CHECKING:
    from chatbot.registry import Registry
    from chatbot.rights import Erasure
    from chatbot.store import ConversationStore
    from training.corpus import ReadReport
    from training.export import Snapshot


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
    from chatbot.config import database_url, home
    from chatbot.copies import Copies
    from chatbot.store import ConversationStore

    return ConversationStore(database_url(), open_key(), Copies(home()))


def open_key() -> bytes:
    """The key of the configured database, which has to be current; a new one only if that knows nobody."""
    from chatbot.config import database_url
    from chatbot.identity import KEY_FILE, load_key
    from chatbot.records import knows_people
    from chatbot.schema import require_current

    home = make_home()
    require_current(database_url())
    missing = not (home / KEY_FILE).exists()
    return load_key(home, new=missing and not knows_people(database_url()))


def erase_what_is_too_old(store: ConversationStore) -> tuple[Erasure, list[Path]]:
    """Erase words, and delete copies, that the configured retention no longer keeps; what was erased and deleted."""
    import time
    from datetime import UTC, datetime, timedelta

    from chatbot.config import load_settings
    from chatbot.rights import Erasure

    kept = load_settings().retention
    erased = store.expire(datetime.now(UTC) - timedelta(days=kept.days)) if kept.days else Erasure(0, 0, 0, ())
    copies = []
    if kept.copies_days:
        oldest = time.time() - kept.copies_days * 86400
        copies = [path for path in whole_copies() if path.stat().st_mtime < oldest]
    for path in copies:
        path.unlink(missing_ok=True)
    return erased, copies


def whole_copies() -> list[Path]:
    """Our backups of the configured database, and what else cannot be cleaned of one person's words."""
    from chatbot.config import database_url, home
    from chatbot.copies import Copies
    from chatbot.database import sqlite_file

    return Copies(home()).whole(sqlite_file(database_url()))


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


def tell_of(snapshot: Snapshot) -> None:
    """Say on stderr what of the log was left out of a snapshot and why, and what was replaced in it."""
    for reason, count in snapshot.left_out.items():
        print(f"left out: {count} ({reason})", file=sys.stderr)
    for kind, count in snapshot.replaced.items():
        print(f"replaced: {count} ({kind})", file=sys.stderr)
