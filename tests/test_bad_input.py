"""What people and disks do wrong: one clear line each, the right exit code, nothing lost, and never a traceback."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from running import rows, run, run_here

from chatbot import schema

Capture = pytest.CaptureFixture[str]
DIALOGUE = '{"id": "d", "turns": ["hi", "hello"]}\n'
SIZES = ("vocabulary_size=300", "embedding_size=3", "encoder_units=3", "decoder_units=3")
QUICK = [
    "train",
    "starter",
    *(part for size in SIZES for part in ("--set", f"model.{size}")),
    *("--set", "optimiser.steps=1", "--set", "optimiser.softmax_draws=0", "--set", "precision=fp32"),
]
LONG_LINES = "".join(f"{number} {'long ' * 4000}\n" for number in range(40))


def test_odd_lines_in_a_chat(home: Path, model_folder: Path) -> None:
    """Whatever bytes a line holds, it gets one line of plain text, and is in the log as far as a text can hold it."""
    said = {
        b"": None,
        b" \t ": None,
        b"a" * 100_000: "a" * 100_000,
        b"\x00\x1b[31mred\x07\x1b]0;title\x07": "\ufffd\x1b[31mred\x07\x1b]0;title\x07",
        b"caf\xe9 \xed\xa0\x80": "caf\ufffd \ufffd\ufffd\ufffd",
        "שלום, מה שלומך?".encode(): "שלום, מה שלומך?",
        "\u202egnirts desrever\u202c".encode(): "\u202egnirts desrever\u202c",
        "😀🎉👨‍👩‍👧‍👦🏳️‍🌈".encode(): "😀🎉👨‍👩‍👧‍👦🏳️‍🌈",
        "\u200b\ufeff".encode(): "\u200b\ufeff",
        b"one\rtwo\x0bthree\x85": "one\rtwo\x0bthree\ufffd",
        b"not ended": "not ended",
    }
    done = run("chat", "--model", model_folder, stdin=b"\n".join(said))

    assert (done.code, done.err, len(done.lines)) == (0, "", len(said))
    assert all(line.isprintable() for line in done.lines)
    stored = [text for (text,) in rows(home, "SELECT text FROM message WHERE role = 'user' ORDER BY id")]
    assert stored == [text for text in said.values() if text is not None]
    assert rows(home, "SELECT count(*) FROM message WHERE role = 'bot'") == [(len(stored),)]


DATA_FILES: dict[str, tuple[bytes | None, str]] = {
    "cut.jsonl.zst": (zstandard.compress(os.urandom(4000) + DIALOGUE.encode())[:-90], "cut off in the middle"),
    "cut-late.jsonl.zst": (zstandard.compress(DIALOGUE.encode() * 9)[:-3], "cut off in the middle"),
    "plain.jsonl.zst": (DIALOGUE.encode(), "not zstd"),
    "latin.jsonl": ('{"turns": ["café", "déjà vu"]}\n'.encode("latin-1"), "line 1: not UTF-8"),
    "words.jsonl": (b"hello\n", "line 1: not JSON"),
    "empty.jsonl": (b"", "holds no dialogue"),
    "blank.jsonl": (b"\n \n", "holds no dialogue"),
    "missing.jsonl": (None, "missing.jsonl"),
}


@pytest.mark.parametrize("name", DATA_FILES)
def test_data_file_that_cannot_be_used(
    name: str, home: Path, tmp_path: Path, model_folder: Path, capsys: Capture
) -> None:
    """import, its preview, evaluate and train refuse it by name and reason; not even a sound file with it is used."""
    content, reason = DATA_FILES[name]
    sound, file = tmp_path / "sound.jsonl", tmp_path / name
    sound.write_text(DIALOGUE, encoding="utf-8")
    if content is not None:
        file.write_bytes(content)

    commands: tuple[list[str | Path], ...] = (
        ["import", "jsonl", sound, file, "--consent", "ours"],
        ["import", "jsonl", file, "--dry-run"],
        ["evaluate", model_folder, "--data", sound, file],
        [*QUICK, "--data", sound, file, "--out", tmp_path / "run"],
    )
    for arguments in commands:
        done = run_here(capsys, *arguments)
        assert (done.code, done.out) == (2, "")
        assert name in done.complaint
        assert reason in done.complaint
    assert not (home / "chatbot.db").exists()


def test_line_7_is_not_json(home: Path, tmp_path: Path, model_folder: Path, capsys: Capture) -> None:
    """One bad line is named by its number and left out; all others are used."""
    file = tmp_path / "talk.jsonl"
    file.write_text(DIALOGUE * 6 + "{oops\n" + DIALOGUE * 3, encoding="utf-8")
    named = "left out: talk.jsonl line 7: not JSON\n"

    imported = run_here(capsys, "import", "jsonl", file, "--consent", "ours")
    assert (imported.code, imported.out, imported.err) == (1, "9 dialogues with 18 turns stored\n", named)
    evaluated = run_here(capsys, "evaluate", model_folder, "--data", file, "--json")
    assert (evaluated.code, evaluated.err) == (0, named)
    assert json.loads(evaluated.out)["sources"]["all"]["replies"] == 9
    trained = run_here(capsys, *QUICK, "--data", file, "--out", tmp_path / "run")
    assert trained.code == 0
    assert named in trained.err


def _reseal(folder: Path) -> None:
    """Make the checksums fit what is there: what a careless hand, or a bad one, would do."""
    sealed = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    del sealed["checksums.json"]
    (folder / "checksums.json").write_text(json.dumps({"files": sealed}), encoding="utf-8")


def _flip(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._file,))


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Trap(folder.parent / "sprung")))
    _reseal(folder)


def _pickle_beside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap(folder.parent / "sprung")))
    _reseal(folder)


def _change_config(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, key: value}), encoding="utf-8")
        _reseal(folder)

    return change


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip, "checksum differs"),
        (_without("model.safetensors"), "lacks model.safetensors"),
        (_without("tokenizer.json"), "lacks tokenizer.json"),
        (_without("config.json"), "config.json is missing"),
        (_without("checksums.json"), "checksums.json is missing"),
        (_change_config("format_version", 99), "format version 99"),
        (_change_config("model", {"vocabulary_size": 7}), "does not hold the weights"),
        (_change_config("context", {}), "context_turns"),
        (_change_config("decoding", {"temprature": 1}), "'temperature'"),
        (_pickle, "does not hold the weights"),
        (_pickle_beside, "no .safetensors weights"),
        (shutil.rmtree, "config.json is missing"),
    ],
)
def test_model_folder_that_cannot_be_trusted(
    damage: Callable[[Path], None], reason: str, model_folder: Path, capsys: Capture
) -> None:
    """A damaged, foreign or pickled model is refused with what is wrong with it, and nothing in it is run."""
    damage(model_folder)
    done = run_here(capsys, "reply", "hi", "--model", model_folder)

    assert (done.code, done.out) == (2, "")
    assert reason in done.complaint
    assert not (model_folder.parent / "sprung").exists()


def test_live_model_that_is_damaged(home: Path, model_folder: Path, capsys: Capture) -> None:
    """A registry model damaged on disk is not promoted; if it is live, the way back is named, and `verify` finds it."""
    for name in ("good", "bad"):
        assert run_here(capsys, "models", "add", model_folder, name).code == 0
    assert run_here(capsys, "models", "promote", "good").code == 0
    assert run_here(capsys, "models", "promote", "bad").code == 0
    _flip(home / "models" / "bad")

    assert "chatbot models rollback" in run_here(capsys, "reply", "hi").complaint
    verified = run_here(capsys, "models", "verify")
    assert verified.code == 1
    assert "good: sound" in verified.lines
    assert "good answers again" in run_here(capsys, "models", "rollback").out
    assert "checksum differs" in run_here(capsys, "models", "promote", "bad").complaint
    assert run_here(capsys, "reply", "hi").code == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("chat: {modle: echo}", "'chat.modle'; did you mean 'model'?"),
        ("lern: {}", "did you mean 'learn'?"),
        ("chat: {history_turns: many}", "chat.history_turns is 'many'; it must be a whole number"),
        ("learn: {policy: {telegram: alowed}}", "must be one of allowed, consented, permitted, never"),
        ("chat: {device: abacus}", "'abacus'"),
        ("- chat", "must be a mapping"),
        ("learn:\n  replay: [", "line 2 is not YAML"),
        ("\0", "line 1 is not YAML"),
        (b"chat: {model: caf\xe9}", "not UTF-8"),
        (None, "Is a directory"),
    ],
)
def test_config_that_is_wrong(text: str | bytes | None, wanted: str, home: Path, capsys: Capture) -> None:
    """A wrong configuration stops every command that reads it with the file, the key and what would be right."""
    file = home / "config.yaml"
    if text is None:
        file.mkdir(parents=True)
    else:
        home.mkdir()
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    for arguments in (["stats", "--learnable"], ["reply", "hi", "--model", "echo"], ["chat", "--model", "echo"]):
        done = run_here(capsys, *arguments)
        assert (done.code, done.out) == (2, "")
        assert str(file) in done.complaint
        assert wanted in done.complaint


@pytest.mark.parametrize(
    "arguments", [["stats"], ["chat", "--model", "echo"], ["db", "upgrade"], ["export"]], ids=" ".join
)
def test_home_that_cannot_be_made(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A state folder that is a file, or below one, is named together with the variable that moves it."""
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        monkeypatch.setenv("CHATBOT_HOME", str(tmp_path / place))
        done = run_here(capsys, *arguments)
        assert done.code == 2
        assert str(tmp_path / place) in done.complaint
        assert "CHATBOT_HOME" in done.complaint


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with one exchange in it, to be copied."""
    folder = tmp_path_factory.mktemp("remembered") / "home"
    assert run(*CHAT, stdin="remember me\n", env={"CHATBOT_HOME": str(folder)}).code == 0
    return folder


@pytest.fixture
def kept(home: Path, remembered: Path) -> Path:
    """A state folder of the test's own with one exchange in it."""
    shutil.copytree(remembered, home)
    return home


CHAT = ("chat", "--model", "echo", "--chat", "kitchen")
TALK = "SELECT role, text FROM message ORDER BY id LIMIT 2"
KEPT = [("user", "remember me"), ("bot", "remember me")]


def test_database_newer_than_the_code(kept: Path, capsys: Capture) -> None:
    """A database of a later version is left alone by every command, and the upgrade of the program is named."""
    with sqlite3.connect(kept / "chatbot.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    for arguments in (["chat", "--model", "echo"], ["stats"], ["export"], ["db", "upgrade"]):
        done = run_here(capsys, *arguments)
        assert (done.code, done.out) == (2, "")
        assert "newer than this program" in done.complaint
        assert "pip install --upgrade familect" in done.complaint
    assert rows(kept, TALK) == KEPT


def test_database_behind_the_code(kept: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of an earlier version is refused, and the command that mends it is named."""
    ((known,),) = rows(kept, "SELECT version_num FROM alembic_version")
    monkeypatch.setattr(schema, "_known", lambda: {known: None, "next": known})

    for arguments in (["chat", "--model", "echo"], ["stats"], ["export"]):
        done = run_here(capsys, *arguments)
        assert (done.code, done.out) == (2, "")
        assert "run `chatbot db upgrade`" in done.complaint
    assert rows(kept, TALK) == KEPT


def test_database_that_is_none(kept: Path, capsys: Capture) -> None:
    """A file that is no database, one of another program, or one cut short, is named and left as it is."""
    file = kept / "chatbot.db"
    with sqlite3.connect(kept / "foreign.db") as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    for content, wanted in (
        (b"remember the milk, " * 300, "not a SQLite database"),
        ((kept / "foreign.db").read_bytes(), "another program"),
        (file.read_bytes()[: file.stat().st_size // 3], "damaged"),
    ):
        for companion in ("chatbot.db-wal", "chatbot.db-shm"):
            (kept / companion).unlink(missing_ok=True)
        file.write_bytes(content)
        done = run_here(capsys, "stats")
        assert done.code in {1, 2}
        assert wanted in done.complaint
        assert file.read_bytes() == content


def test_file_size_limit(kept: Path) -> None:
    """Where the database may not grow, the lines that do not fit are refused in words, and none before them is lost."""
    size = (kept / "chatbot.db").stat().st_size + 200_000
    done = run(
        *CHAT,
        stdin=LONG_LINES,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )

    assert done.code == 1
    _verify_that_answered_lines_are_kept(kept, done.lines)
    assert all("chatbot.db" in line for line in done.err.splitlines())


@pytest.fixture
def small_disk(tmp_path: Path, remembered: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 1 MB that is the state folder, with one exchange in it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk is not allowed here")
    monkeypatch.setenv("CHATBOT_HOME", str(disk))
    shutil.copytree(remembered, disk, dirs_exist_ok=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_disk_full(small_disk: Path) -> None:
    """A full disk: the lines that do not fit are refused in words, none before is lost, and with room all goes on."""
    done = run(*CHAT, stdin=LONG_LINES)

    assert done.code == 1
    _verify_that_answered_lines_are_kept(small_disk, done.lines)
    assert "there is no space left" in done.err
    assert run("db", "check").out == "the database is sound\n"
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    assert run(*CHAT, stdin="room again\n").lines == ["room again"]
    assert rows(small_disk, "SELECT text FROM message ORDER BY id DESC LIMIT 1") == [("room again",)]


def test_read_only_database(small_disk: Path) -> None:
    """On a disk that may only be read a chat says so, and what was there stays as it was."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    done = run(*CHAT, stdin="hi\n")
    assert done.code == 1
    assert "set CHATBOT_DATABASE_URL to a place you may write" in done.complaint
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert rows(small_disk, TALK) == KEPT


def _verify_that_answered_lines_are_kept(home: Path, lines: list[str]) -> None:
    answered = [line for line in lines if line]
    assert 0 < len(answered) < 40 == len(lines)
    stored = [text for (text,) in rows(home, "SELECT text FROM message WHERE role = 'bot' ORDER BY id")]
    assert [" ".join(text.split()) for text in stored] == ["remember me", *answered]
    assert rows(home, TALK) == KEPT
