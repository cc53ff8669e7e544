"""What the schema door lets through, makes, copies and refuses."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatbot import schema
from chatbot.errors import DatabaseOutdatedError, UsageError
from chatbot.messages import Message
from chatbot.store import ConversationStore

HEAD = schema._head()
KEY = b"k" * 32
ROOT = Path(__file__).resolve().parents[2]


def url_of(file: Path) -> str:
    """The url of a SQLite file."""
    return f"sqlite:///{file}"


def execute(file: Path, *statements: str) -> None:
    """Change a database behind the program's back."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with one message, one revision behind a program that has another one. The database's file."""
    file = tmp_path / "chatbot.db"
    schema.upgrade(url_of(file))
    store = ConversationStore(url_of(file), KEY)
    store.record_message(Message("terminal", "default", "me", "kept", "1", datetime.now(UTC)))
    store.close()
    migrations = tmp_path / "migrations"
    (migrations / "versions").mkdir(parents=True)
    for path in (schema.migrations_dir() / "env.py", *(schema.migrations_dir() / "versions").glob("*.py")):
        (migrations / path.relative_to(schema.migrations_dir())).write_text(path.read_text())
    (migrations / "versions" / "next.py").write_text(
        f'import sqlalchemy as sa\nfrom alembic import op\nrevision = "next"\ndown_revision = "{HEAD}"\n'
        'def upgrade():\n    with op.batch_alter_table("message") as batch:\n'
        '        batch.add_column(sa.Column("mood", sa.Text()))\n'
        '        batch.alter_column("text", type_=sa.String(99))\n'
        "def downgrade():\n    pass\n"
    )
    monkeypatch.setattr(schema, "migrations_dir", lambda: migrations)
    return file


def test_missing_database_is_made(tmp_path: Path) -> None:
    """The first start needs no command: folder and file come about, readable by their owner alone."""
    file = tmp_path / "new" / "chatbot.db"

    schema.require_current(url_of(file))

    assert schema.check(url_of(file)) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_current_database_is_let_through_unchanged(tmp_path: Path) -> None:
    """A second start changes nothing and copies nothing, nor does an upgrade."""
    file = tmp_path / "chatbot.db"
    schema.require_current(url_of(file))

    schema.require_current(url_of(file))

    assert schema.upgrade(url_of(file)) is None
    assert list(tmp_path.glob("*.bak")) == []


def test_a_current_database_costs_no_alembic(tmp_path: Path) -> None:
    """An ordinary start and all imports of the store leave Alembic, a fifth of a second, unimported."""
    url = url_of(tmp_path / "chatbot.db")
    schema.upgrade(url)
    program = (
        "import sys, chatbot.store; from chatbot.schema import require_current;"
        "require_current(sys.argv[1]); sys.exit('alembic' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program, url], cwd=ROOT, timeout=60, check=False)

    assert done.returncode == 0


def test_memory_needs_no_schema() -> None:
    """A database in memory is the store's own business."""
    schema.require_current("sqlite://")

    assert schema.upgrade("sqlite://") is None


def test_older_database_is_refused_with_the_command(behind: Path) -> None:
    """A database behind the code is not touched, and the text names the command."""
    with pytest.raises(DatabaseOutdatedError, match=rf"{HEAD}.*next.*`chatbot db upgrade`"):
        schema.require_current(url_of(behind))

    assert schema.check(url_of(behind)) == [f"the database {behind} is at revision {HEAD}, this program at next"]


def test_upgrade_copies_the_older_database_first(behind: Path) -> None:
    """An upgrade rebuilds a table that others refer to, keeps its rows, and leaves a whole copy of the old state."""
    copy = schema.upgrade(url_of(behind))

    assert copy is not None
    assert copy.parent == behind.parent
    for file, revision in ((behind, "next"), (copy, HEAD)):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
            assert connection.execute("SELECT text FROM message").fetchall() == [("kept",)]
    schema.require_current(url_of(behind))


def test_failed_upgrade_leaves_the_old_database(behind: Path) -> None:
    """A revision that fails half way leaves no trace of itself."""
    broken = schema.migrations_dir() / "versions" / "next.py"
    broken.write_text(broken.read_text().replace("def downgrade", "    raise RuntimeError('half way')\ndef downgrade"))

    with pytest.raises(RuntimeError, match="half way"):
        schema.upgrade(url_of(behind))

    with closing(sqlite3.connect(behind)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert "mood" not in [row[1] for row in connection.execute("PRAGMA table_info(message)")]


def test_newer_database_is_refused(tmp_path: Path) -> None:
    """A database of a later program is refused by start and upgrade alike, and not touched."""
    file = tmp_path / "chatbot.db"
    schema.upgrade(url_of(file))
    execute(file, "UPDATE alembic_version SET version_num = '9999'")

    for call in (schema.require_current, schema.upgrade):
        with pytest.raises(DatabaseOutdatedError, match="newer than this program; upgrade familect"):
            call(url_of(file))


def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """A SQLite file with other tables gets none of ours, and not a byte of it changes."""
    file = tmp_path / "photos.db"
    execute(file, "CREATE TABLE photo (id)")
    before = file.read_bytes()

    for call in (schema.require_current, schema.upgrade, schema.check):
        with pytest.raises(UsageError, match="belongs to another program"):
            call(url_of(file))

    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["photos.db"]


@pytest.mark.parametrize("url", ["no url", "nosuch://host/db", "sqlite+nosuch:///x.db"])
def test_wrong_url_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not a database url is a user's mistake, said in one line, and no file is made."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match="sqlite:///"):
        schema.require_current(url)

    assert list(tmp_path.iterdir()) == []


def test_backup_of_a_database_in_use(tmp_path: Path) -> None:
    """A copy made while the store is open is one whole private file; an existing file is never replaced."""
    file, target = tmp_path / "chatbot.db", tmp_path / "copy.db"
    schema.upgrade(url_of(file))
    store = ConversationStore(url_of(file), KEY)
    store.record_message(Message("terminal", "default", "me", "kept", "1", datetime.now(UTC)))

    schema.backup(url_of(file), target)

    store.close()
    assert sorted(entry.name for entry in tmp_path.iterdir() if "copy" in entry.name) == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert schema.check(url_of(target)) == []
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT text FROM message").fetchall() == [("kept",)]
    with pytest.raises(UsageError, match="exists already"):
        schema.backup(url_of(file), target)


@pytest.mark.parametrize(
    ("url", "target", "said"),
    [
        ("sqlite://", "copy.db", "no SQLite file"),
        ("sqlite:////nowhere/chatbot.db", "copy.db", "there is no database"),
        ("here", "file/copy.db", "cannot be (made|written)"),
    ],
)
def test_impossible_backup_is_refused(tmp_path: Path, url: str, target: str, said: str) -> None:
    """What cannot be copied, or not to there, is said in one line."""
    here = url_of(tmp_path / "chatbot.db")
    schema.upgrade(here)
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match=said):
        schema.backup(here if url == "here" else url, tmp_path / target)


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    """Orphans, a missing file, a file of other bytes and a damaged page are each a line, never an exception."""
    file = tmp_path / "chatbot.db"
    assert "empty or missing" in schema.check(url_of(file))[0]
    schema.upgrade(url_of(file))
    execute(
        file,
        "INSERT INTO dataset VALUES (1, 'd', 'h', '2026-01-01 00:00:00')",
        "INSERT INTO dataset_item VALUES (1, 77)",
    )
    assert any("message" in line and "not there" in line for line in schema.check(url_of(file)))
    other = tmp_path / "other.db"
    other.write_text("no database at all, but a text that is long enough " * 99)
    assert "not a SQLite database" in schema.check(url_of(other))[0]
    pages = bytearray(file.read_bytes())
    pages[4096 * 2 : 4096 * 6] = b"\xa5" * 4096 * 4
    file.write_bytes(pages)
    assert schema.check(url_of(file)) != []
