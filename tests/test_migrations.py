"""The revisions: one head, from nothing to it, equal to the tables, down and up again, and independent of our code."""

from __future__ import annotations

import ast
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.schema import CreateTable
from talking import KEY, rows, said

from chatbot import schema
from chatbot.errors import DatabaseOutdatedError
from chatbot.store import ConversationStore
from chatbot.tables import metadata


def config_for(url: str) -> Config:
    """Alembic as our program runs it, on any url."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_dir()))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def tables_of(url: str) -> dict[str, set[str]]:
    """The tables of a database with their columns and named constraints and indexes."""
    engine = create_engine(url)
    try:
        look = inspect(engine)
        return {
            table: {column["name"] for column in look.get_columns(table)}
            | {str(found["name"]) for found in look.get_unique_constraints(table)}
            | {str(found["name"]) for found in look.get_check_constraints(table)}
            | {str(found["name"]) for found in look.get_foreign_keys(table)}
            | {str(found["name"]) for found in look.get_indexes(table)}
            for table in look.get_table_names()
            if table != "alembic_version"
        }
    finally:
        engine.dispose()


def test_one_head() -> None:
    """There is one head, and the quick reading of the files finds the same."""
    heads = ScriptDirectory.from_config(config_for("sqlite://")).get_heads()

    assert heads == [schema._head()]


def test_nothing_to_head_equals_the_tables(tmp_path: Path) -> None:
    """The revisions build what `chatbot.tables` describes: Alembic finds no difference, and all names agree."""
    url, direct = f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db"

    command.upgrade(config_for(url), "head")

    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    engine = create_engine(direct)
    metadata.create_all(engine)
    engine.dispose()
    assert tables_of(url) == tables_of(direct)


def test_down_and_up_again(tmp_path: Path) -> None:
    """Going down leaves no table of ours; going up again gives the same tables."""
    url = f"sqlite:///{tmp_path}/a.db"
    command.upgrade(config_for(url), "head")
    before = tables_of(url)

    command.downgrade(config_for(url), "base")

    assert tables_of(url) == {}
    command.upgrade(config_for(url), "head")
    assert tables_of(url) == before


def test_a_database_of_the_first_release_is_upgraded_and_used(tmp_path: Path) -> None:
    """A stored database of revision 0001 keeps its rows, gets a copy beside it, and takes a messenger's messages."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((Path(__file__).parent / "data" / "revision_0001.sql").read_text("utf-8"))
    url = f"sqlite:///{file}"
    with pytest.raises(DatabaseOutdatedError, match="chatbot db upgrade"):
        schema.require_current(url)

    copy = schema.upgrade(url)

    assert copy is not None
    assert schema.check(url) == []
    store = ConversationStore(url, KEY)
    kept = [(record.kind, record.text) for record in store.my_data("telegram", "me")]
    message = said("new", 7, "c", "telegram")
    accepted = store.accept(message)
    history = store.history(store.record_message(message).id, 6)
    store.close()
    assert kept == [("message", "hi"), ("reply", "hello"), ("rating", "+1"), ("consent", "given")]
    assert accepted
    assert history == ["hi", "hello"]
    assert rows(url, "SELECT delivery FROM message WHERE role = 'bot'") == [("sent",)]


def test_command_line_takes_the_url(tmp_path: Path) -> None:
    """`alembic -x url=... upgrade head` works in a checkout, with nothing but pyproject.toml."""
    root = Path(__file__).resolve().parent.parent
    url = f"sqlite:///{tmp_path}/a.db"

    subprocess.run(
        [sys.executable, "-m", "alembic", "-x", f"url={url}", "upgrade", "head"],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=60,
    )

    schema.require_current(url)


def test_revisions_import_nothing_of_ours() -> None:
    """A revision imports SQLAlchemy and Alembic alone, so that later code cannot change what it did."""
    for file in (schema.migrations_dir() / "versions").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= {"sqlalchemy", "alembic"}, file.name


def test_tables_have_postgresql_ddl() -> None:
    """Every table can be written for PostgreSQL, times with their zone."""
    dialect = make_url("postgresql://").get_dialect()()
    ddl = [str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables]

    assert len(ddl) == 14
    assert all("created_at TIMESTAMP WITHOUT" not in text for text in ddl)
