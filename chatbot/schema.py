"""Is the database's schema the code's, and if not, make it so. Alembic is imported only when there is work for it.

A revision is data under `migrations/versions`; what this program knows is read from the files there.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from chatbot.database import explained, in_memory, open_engine, place, reason, sqlite_file, writer
from chatbot.errors import DatabaseError, DatabaseOutdatedError, UsageError

_REVISION = re.compile(r'^(revision|down_revision)\b[^=\n]*= *"(\w+)"', re.MULTILINE)


def migrations_dir() -> Path:
    """Where the revisions are: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "migrations", here.parent / "migrations"):
        if (candidate / "env.py").is_file():
            return candidate
    raise FileNotFoundError("no migrations beside the chatbot package")


def upgrade(url: str) -> Path | None:
    """Bring a database to the revision of this code, all or nothing; make it if there is none.

    An older SQLite file is copied first; returns the copy, which is kept. None where nothing was copied. Raises
    DatabaseOutdatedError for a database newer than the code, UsageError for one of another program.
    """
    found = _revision(url)
    head = _head()
    if found == head or in_memory(url):
        return None
    if found is not None:
        _verify_not_newer(url, found)
    file = sqlite_file(url)
    copy = None
    if file is not None and found is not None:
        copy = file.with_name(f"{file.name}.{found}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.bak")
        backup(url, copy)
    elif file is not None:
        _create(file)
    _migrate(url)
    return copy


def require_current(url: str) -> None:
    """Let pass a database at the revision of this code, and make one that does not exist yet.

    Raises DatabaseOutdatedError for one that is behind or ahead, naming the command that mends it.
    """
    if in_memory(url):
        return
    found = _revision(url)
    if found is None:
        upgrade(url)
        return
    _verify_not_newer(url, found)
    if found != _head():
        raise DatabaseOutdatedError(
            f"{place(url)} is at revision {found}, this program needs {_head()}: run `chatbot db upgrade`"
        )


def exists(url: str) -> bool:
    """Whether there is a database of ours, of any revision. UsageError if it is another program's."""
    return _revision(url) is not None


def backup(url: str, target: Path) -> None:
    """Copy a SQLite database that may be in use, into one new file of mode 0600 that appears when it is whole."""
    file = sqlite_file(url)
    if file is None:
        raise UsageError(
            f"{place(url)} is no SQLite file: back it up with `pg_dump`, or into a file with `chatbot db copy`"
        )
    if not file.is_file():
        raise UsageError(f"there is no database {file}: check CHATBOT_HOME and CHATBOT_DATABASE_URL")
    if target.exists():
        raise UsageError(f"{target} exists already: name another file for the backup")
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        _create(partial)
        with (
            explained(url),
            closing(sqlite3.connect(file)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy)
            # One file that needs no companions; opening it for work turns the log on again.
            copy.execute("PRAGMA journal_mode=DELETE")
        partial.replace(target)
    except OSError as error:
        raise UsageError(
            f"the backup {target} cannot be written ({error.strerror}): name a file in a folder of yours"
        ) from error
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)


def restore(url: str, source: Path) -> Path | None:
    """Put a backup in the place of a SQLite database, even while programs use it; returns the copy of what was there.

    As one writing transaction: those programs go on with what is restored, and no old log is ever laid over it, as when
    a file is merely replaced. UsageError for a source that is not ours, DatabaseError for one that is damaged.
    """
    file = sqlite_file(url)
    if file is None:
        raise UsageError(f"{place(url)} is no SQLite file: bring it back with the tools of its server")
    origin = f"sqlite:///{source}"
    if not exists(origin):
        raise UsageError(f"there is no backup {source}: name a file that `chatbot db backup` made")
    problems = _damages(origin)
    if problems:
        raise DatabaseError(f"the backup {source} is damaged ({problems[0]}): use another; nothing was changed")
    kept = None
    if exists(url):
        kept = file.with_name(f"{file.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.bak")
        backup(url, kept)
    else:
        _create(file)
    with explained(url), closing(sqlite3.connect(source)) as copy, closing(sqlite3.connect(file)) as live:
        copy.backup(live)
    return kept


def check(url: str) -> list[str]:
    """What is wrong with a database, one line each: its pages, its references, its revision. Empty: all is well."""
    try:
        found = _revision(url)
        problems = _damages(url)
    except DatabaseError as error:
        return [str(error)]
    if found is None:
        problems.append(f"{place(url)} is empty or missing: run `chatbot db upgrade`")
    elif found != _head():
        problems.append(f"{place(url)} is at revision {found}, this program at {_head()}")
    return problems


@contextmanager
def migration_connection(url: str) -> Iterator[Connection]:
    """A connection in one writing transaction for everything a migration does, foreign keys checked at its end."""
    engine = writer(open_engine(url))
    try:
        with explained(url), engine.connect() as connection:
            sqlite = engine.dialect.name == "sqlite"
            if sqlite:
                # Rebuilding a table drops it for a moment. Has to be said before the transaction begins.
                connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            with connection.begin():
                yield connection
                if sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise DatabaseError(f"rows of {place(url)} point to missing ones: see `chatbot db check`")
    finally:
        engine.dispose()


def _migrate(url: str) -> None:
    # Here, for importing Alembic takes a fifth of a second.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with migration_connection(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _known() -> dict[str, str | None]:
    """Every revision of this program with the one before it."""
    revisions = {}
    for file in sorted((migrations_dir() / "versions").glob("*.py")):
        names = dict(_REVISION.findall(file.read_text("utf-8")))
        revisions[names["revision"]] = names.get("down_revision")
    return revisions


def _head() -> str:
    known = _known()
    (head,) = known.keys() - set(known.values())
    return head


def _revision(url: str) -> str | None:
    """The revision a database is at, None for one that is missing or empty."""
    # First, for it refuses a wrong url before any file is made; only looking, for the file may be another program's.
    engine = open_engine(url, look=True)
    file = sqlite_file(url)
    if file is not None and (not file.exists() or file.stat().st_size == 0):
        return None
    try:
        with explained(url), engine.connect() as connection:
            names = inspect(connection).get_table_names()
            found = (
                connection.scalar(text("SELECT version_num FROM alembic_version"))
                if "alembic_version" in names
                else None
            )
    finally:
        engine.dispose()
    if found is None and names:
        raise UsageError(f"{place(url)} belongs to another program: set CHATBOT_DATABASE_URL to another place")
    return None if found is None else str(found)


def _verify_not_newer(url: str, found: str) -> None:
    if found not in _known():
        raise DatabaseOutdatedError(
            f"{place(url)} (revision {found}) is newer than this program; upgrade familect:"
            " `pip install --upgrade familect`"
        )


def _damages(url: str) -> list[str]:
    file = sqlite_file(url)
    if file is None:
        return [] if in_memory(url) else _unreadable(url)
    if not file.exists():
        return []
    engine = open_engine(url, look=True)
    try:
        with explained(url), engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    finally:
        engine.dispose()
    return [str(line) for line in pages if line != "ok"] + [
        f"row {row[1]} of {row[0]} points to a row of {row[2]} that is not there" for row in orphans
    ]


def _unreadable(url: str) -> list[str]:
    """On a server: read each table to its end. Pages and references are the server's own care."""
    engine = open_engine(url)
    problems = []
    try:
        with explained(url), engine.connect() as connection:
            for name in inspect(connection).get_table_names():
                quoted = engine.dialect.identifier_preparer.quote(name)
                try:
                    connection.exec_driver_sql(f"SELECT count(*) FROM {quoted} AS t WHERE t IS NULL")
                except DBAPIError as error:
                    connection.rollback()
                    problems.append(f"table {name} cannot be read: {reason(error.orig)}")
    finally:
        engine.dispose()
    return problems


def _create(file: Path) -> None:
    """An empty file that only its owner may read; SQLite gives its companions the same mode."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise UsageError(
            f"the database {file} cannot be made ({error.strerror}): set CHATBOT_HOME to a folder of your own"
        ) from error
