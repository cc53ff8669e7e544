"""What tests stand on: a home folder of their own, one thread, a store, and a tiny tokenizer, model and data file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from postgres_server import Server

    from chatbot.store import ConversationStore
    from chatbot.tokenizer import Tokenizer

# Before torch and tokenizers are imported, here or in a subprocess: one thread each is quickest for tiny sizes.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile(
    "tests",
    deadline=None,  # a slow machine is not a failing test
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own; no variable of the developer's shell gets through."""
    for name in ("CHATBOT_CONFIG", "CHATBOT_DATABASE_URL", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    monkeypatch.setenv("CHATBOT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """A tokenizer with a few dozen merges and the sources "other", "familect" and "reverse"."""
    from tiny import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture
def model_folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A saved model folder with random weights, in the place of this test's own."""
    from tiny import save_tiny_model

    return save_tiny_model(tmp_path / "tiny-model", tokenizer)


@pytest.fixture
def dialogue_file(tmp_path: Path) -> Path:
    """A plain dialogue file of 23 short conversations."""
    from tiny import small_talk, write_dialogues

    return write_dialogues(tmp_path / "talk.jsonl", small_talk(23))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the head revision, made once, for copying."""
    from chatbot import schema

    file = tmp_path_factory.mktemp("database") / "empty.db"
    schema.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for the whole session; tests that need it are skipped where it is not installed."""
    import postgres_server

    where = postgres_server.programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the PATH or under /usr/lib/postgresql")
    with postgres_server.running(where) as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let the tests of the store run on both databases, unless they say that they are about one."""
    chosen = any("url" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "url" in metafunc.fixturenames and metafunc.definition.path.parent.name == "chatbot" and not chosen:
        metafunc.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> Iterator[str]:
    """The url of a new database: a SQLite file, or what the test is parametrized with."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{shutil.copy(empty_database, tmp_path / 'chatbot.db')}"
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[ConversationStore]:
    """A store on that file."""
    from talking import KEY

    from chatbot.store import ConversationStore

    opened = ConversationStore(url, KEY)
    yield opened
    opened.close()
