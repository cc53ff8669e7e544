"""A PostgreSQL server of the tests' own, started where its programs are installed; and a new database for each test.

It listens on a socket in a temporary folder, nowhere else, and syncs nothing to the disk.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine

from chatbot import schema

_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "max_connections": "60",
    "autovacuum": "off",
}
_TEMPLATE = "template_at_head"


def programs() -> Path | None:
    """The folder with initdb and pg_ctl, of the newest version; None if there is none."""
    found = [Path(path).resolve() for path in [shutil.which("initdb") or shutil.which("pg_ctl")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]), reverse=True)
    return next((path.parent for path in found if (path.parent / "initdb").is_file()), None)


class Server:
    """A running server: urls of databases in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()

    def url(self, name: str) -> str:
        """The url of a database by its name."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def administer(self, statement: str) -> None:
        """Run a statement outside any of the tests' databases."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    def empty(self) -> str:
        """The url of a new database without a table."""
        name = f"empty{next(self._numbers)}"
        self.administer(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The url of a database at the head revision, gone afterwards."""
        name = f"test{next(self._numbers)}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        yield self.url(name)
        self.administer(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running(where: Path) -> Iterator[Server]:
    """A server from the programs in a folder, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="familect-postgres-") as name:
        folder = Path(name)
        user = None
        if os.geteuid() == 0:  # which PostgreSQL refuses
            user = next(u for u in ("postgres", "nobody") if u in {entry.pw_name for entry in pwd.getpwall()})
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"

        def call(program: str, *arguments: str | Path) -> None:
            subprocess.run(
                [where / program, "-D", data, *arguments],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=120,
            )

        call("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        with (data / "postgresql.conf").open("a") as settings:
            settings.writelines(f"{key} = '{value}'\n" for key, value in _SETTINGS.items())
            settings.write(f"unix_socket_directories = '{folder}'\n")
        call("pg_ctl", "start", "-w", "-l", log)
        try:
            server = Server(folder)
            server.administer(f"CREATE DATABASE {_TEMPLATE}")
            schema.upgrade(server.url(_TEMPLATE))
            yield server
        finally:
            call("pg_ctl", "stop", "-m", "immediate")
