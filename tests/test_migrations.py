"""The revisions: one head, from nothing to it, equal to the tables, down and up again, and independent of our code."""

from __future__ import annotations

import ast
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres_server import Server
from sqlalchemy import create_engine, inspect, text
from talking import KEY, rows, said

from chatbot import schema, textindex
from chatbot.errors import DatabaseOutdatedError
from chatbot.search import Wanted
from chatbot.store import ConversationStore
from chatbot.tables import metadata

DATA = Path(__file__).parent / "data"
RELEASED = sorted(file.stem.removeprefix("revision_") for file in DATA.glob("revision_*.sql"))


@pytest.fixture(params=["sqlite", "postgresql"])
def nothing(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The url of a database without a table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    server: Server = request.getfixturevalue("postgres")
    return server.empty()


def config_for(url: str) -> Config:
    """Alembic as our program runs it, on any url."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_dir()))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = url
    return config


def tables_of(url: str) -> dict[str, set[str]]:
    """The tables of a database with their columns, named constraints and indexes, and SQLite's triggers as written."""
    engine = create_engine(url)
    try:
        look = inspect(engine)
        triggers = {}
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE type = 'trigger'"))
                triggers = {"triggers": set(rows.scalars())}
        return triggers | {
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


def of_the_model(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether something in a database is described by `chatbot.tables`: the index of texts is not."""
    return not (kind in {"table", "index"} and str(name).startswith(textindex.NAME))


def test_nothing_to_head_equals_the_tables(nothing: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The revisions build what `chatbot.tables` and `chatbot.textindex` describe: no difference, and all names agree.

    The triggers are among what is compared: a revision that rebuilds `message` has to make them again.
    """
    command.upgrade(config_for(nothing), "head")

    engine = create_engine(nothing)
    with engine.connect() as connection:
        opts = {"compare_type": True, "include_name": of_the_model}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    on_file = nothing.startswith("sqlite")
    direct = f"sqlite:///{tmp_path}/b.db" if on_file else request.getfixturevalue("postgres").empty()
    engine = create_engine(direct)
    with engine.begin() as connection:
        metadata.create_all(connection)
        if not on_file:
            connection.execute(text("CREATE EXTENSION pg_trgm"))
        textindex.create(connection)
    engine.dispose()
    assert tables_of(nothing) == tables_of(direct)


def test_down_and_up_again(nothing: str) -> None:
    """Going down leaves no table of ours; going up again gives the same tables."""
    command.upgrade(config_for(nothing), "head")
    before = tables_of(nothing)

    command.downgrade(config_for(nothing), "base")

    assert {name for name, parts in tables_of(nothing).items() if parts} == set()
    command.upgrade(config_for(nothing), "head")
    assert tables_of(nothing) == before


def test_every_revision_has_a_stored_database() -> None:
    """Whatever was the head once is in somebody's hands: all revisions but the newest are there to be upgraded."""
    assert sorted(schema._known().keys() - {schema._head()}) == RELEASED


@pytest.mark.parametrize("revision", RELEASED)
def test_a_database_of_an_earlier_revision_is_upgraded_and_used(tmp_path: Path, revision: str) -> None:
    """One that the code of that revision made keeps its rows, gets a copy beside it, and is searched and written."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((DATA / f"revision_{revision}.sql").read_text("utf-8"))
    url = f"sqlite:///{file}"
    with pytest.raises(DatabaseOutdatedError, match="chatbot db upgrade"):
        schema.require_current(url)

    copy = schema.upgrade(url)

    assert copy is not None
    assert schema.check(url) == []
    store = ConversationStore(url, KEY)
    kept = {(record.kind, record.text) for record in store.my_data("telegram", "me")}
    message = said("new", 7, "c", "telegram")
    accepted = store.accept(message)
    history = store.history(store.record_message(message).id, 6)
    found = [one.text for one in store.search(Wanted(words=("HEL",)), 9)]
    store.close()
    assert kept >= {("message", "hi"), ("reply", "hello"), ("rating", "+1"), ("consent", "given")}
    assert accepted
    assert history[:2] == ["hi", "hello"]
    assert found == ["hello"]
    assert rows(url, "SELECT delivery FROM message WHERE text = 'hello'") == [("sent",)]


def test_what_waited_in_a_database_of_the_second_revision_waits_on(tmp_path: Path) -> None:
    """The inbox goes through an upgrade with what is unfinished, corrections with what they correct."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((DATA / "revision_0002.sql").read_text("utf-8"))

    schema.upgrade(f"sqlite:///{file}")

    store = ConversationStore(f"sqlite:///{file}", KEY)
    waiting = [(found.message.text, found.state) for found in store.waiting("telegram")]
    taught = [(one.text, one.taught) for one in store.search(Wanted(rating="taught"), 9)]
    lineage = store.lineage("m2")
    store.close()
    assert waiting == [("still waiting", "received")]
    assert taught == [("wrong", "面条")]
    assert lineage == [1, 2]


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


def test_the_statements_of_the_index_are_the_revisions() -> None:
    """What the revision that made the index says is what the code says."""
    revision = (schema.migrations_dir() / "versions" / "0003_search.py").read_text("utf-8")
    module: dict[str, Any] = {}
    exec(re.sub(r"(?m)^(import|from) .*$", "", revision), module)

    assert (module["SQLITE"], module["POSTGRESQL"]) == (textindex.SQLITE, textindex.POSTGRESQL)
