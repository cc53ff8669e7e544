"""The command line as a whole: help, exit codes, where output goes, and what the smaller commands do."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import Done, command, rows, run, run_here

from chatbot.cli import _GROUPS, build_parser, main
from chatbot.errors import ModelFolderError

# Every command asked for its help in one process: what it printed, and which heavy modules were loaded by the end.
HELP = """
import argparse, contextlib, io, json, sys
from chatbot.cli import build_parser, main

def commands(parser, path=()):
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*path, name))

helped = {}
for path in commands(build_parser()):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            main([*path, "--help"])
    except SystemExit as exit:
        helped[" ".join(path)] = [exit.code, out.getvalue()]
heavy = {"torch", "numpy", "sqlalchemy", "alembic", "tokenizers", "prompt_toolkit", "matplotlib"} & sys.modules.keys()
print(json.dumps([helped, sorted(heavy)]))
"""
DOCUMENTED = {
    *("chat", "reply", "train", "evaluate", "retrain", "import", "export", "stats"),
    *("models list", "models show", "models promote", "models rollback", "models verify"),
    *("db upgrade", "db check", "db backup"),
}


@pytest.mark.parametrize("group", _GROUPS)
def test_a_group_has_the_commands_by_which_it_is_found(group: str) -> None:
    """A command is looked up before its module is imported: no name is missing there, and none is wrong."""
    commands = argparse.ArgumentParser().add_subparsers()

    importlib.import_module(f"chatbot.cli.{group}").add_commands(commands)

    assert tuple(commands.choices) == _GROUPS[group]
    assert set(commands.choices) <= set(build_parser(_GROUPS[group][0])._actions[-1].choices or ())


def test_help_of_every_command() -> None:
    """Each command explains itself and exits with 0, and asking for help loads no heavy library."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True, timeout=60)
    helped, heavy = json.loads(done.stdout)

    assert set(helped) >= DOCUMENTED
    for path, (code, text) in helped.items():
        assert (code, text.splitlines()[0].split()[:2]) == (0, ["usage:", "chatbot"]), path
    assert heavy == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("", "COMMAND"),
        ("chta", "'chta'"),
        ("chat --bogus", "--bogus"),
        ("db", "ACTION"),
        ("import xml talk.xml", "'xml'"),
        ("reply hi --seed seven", "'seven'"),
        ("reply hi --seed 9223372036854775808", "9223372036854775807"),
        ("reply hi --seed -1", "'-1'"),
        ("reply hi --model echo --jsonl", "--jsonl"),
        ("reply hi --set temperature", "key=value"),
        ("reply hi --set temperature=[", "temperature=["),
        ("reply hi --device abacus", "'abacus'"),
        ("train nonsense", "starter"),
        ("train starter", "--data"),
        ("train starter --threads 0", "'0'"),
        ("train starter --set optimiser.stepps=1", "'steps'"),
        ("evaluate nonsense --data pyproject.toml", "pyproject.toml"),
        ("models show nonsense", "chatbot models list"),
        ("models promote ../nonsense", "chatbot models list"),
        ("models rollback", "no earlier model"),
        ("db backup .", "chatbot.db"),
    ],
)
def test_wrong_use(arguments: str, wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's mistake gives exit code 2, nothing on stdout, and one line that names it or the way out."""
    done = run_here(capsys, *arguments.split())

    assert (done.code, done.out) == (2, "")
    assert wanted in done.complaint


def test_debug_shows_the_traceback() -> None:
    """With --debug a mistake is not told in plain words: the error itself comes through."""
    with pytest.raises(ModelFolderError):
        main(["--debug", "models", "show", "nonsense"])


def test_reply_needs_a_text() -> None:
    """`chatbot reply` answers its argument or stdin, says so if both are missing, and reads any bytes."""
    assert run("reply", "--model", "echo").code == 2
    assert "nothing to answer" in run("reply", "--model", "echo", stdin=" \n").complaint
    done = run("reply", "--model", "echo", stdin=b"caf\xe9 \xf0\x9f\x8e\x89\n")
    assert (done.code, done.lines, done.err) == (0, ["caf\ufffd 🎉"], "")
    assert "kill" not in run("reply", "--model", "echo", "I want to kill myself").out


def test_reply_lines_in_order_bad_ones_named() -> None:
    """--jsonl answers every good line in order, says of each bad one what is wrong with it, and ends with 1."""
    lines = [
        b'{"id": 1, "turns": ["hi"]}',
        b"",
        b"not json",
        b'{"id": "\\ud800", "turns": ["hi \\ud800"]}',
        b'{"id": 2, "turns": "hi"}',
        b'{"id": 3, "turns": ["a", "b", " "]}',
        b'{"id": 4, "turns": ["\xe9"]}',
        b"[" * 100_000,
        '{"id": [5], "turns": ["a", "b", "c\\u2028d 你好"]}'.encode(),
        b'{"id": 6, "turns": ["I want to kill myself"]}',
    ]
    done = run("reply", "--model", "echo", "--jsonl", stdin=b"\n".join(lines))

    answers = [json.loads(line) for line in done.lines]
    assert (done.code, done.err) == (1, "")
    assert [answer["id"] for answer in answers] == [1, None, "\ud800", 2, 3, None, None, [5], 6]
    assert ["error" in answer for answer in answers] == [False, True, False, True, True, True, True, False, False]
    assert answers[7].keys() == {"id", "reply", "model", "ms"}
    assert (answers[7]["reply"], answers[7]["model"]) == ("c d 你好", "echo")
    assert (answers[1]["error"], answers[5]["error"]) == ("not JSON", "not UTF-8")
    assert answers[8]["model"] == "rules"
    assert run("reply", "--model", "echo", "--jsonl", stdin=lines[0]).code == 0


@pytest.mark.parametrize("arguments", [["chat"], ["reply", "--jsonl"]], ids=" ".join)
def test_reader_that_leaves(arguments: list[str], home: Path) -> None:
    """`| head -1`: the program ends quietly with 0 when nobody reads its output any more."""
    lines = b'{"id": 1, "turns": ["hi"]}\n' * 400
    with subprocess.Popen(
        command(*arguments, "--model", "echo"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdin.write(lines)
        program.stdin.flush()
        assert b"hi" in program.stdout.readline()
        program.stdout.close()
        program.stdin.close()
        assert program.stderr.read() == b""
    assert program.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("arguments", [["stats"], ["chat", "--model", "echo"]], ids=" ".join)
def test_output_that_cannot_be_written(arguments: list[str], home: Path) -> None:
    """A full disk behind `>` is said in one line, with exit code 1, and not again when Python exits."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(*arguments), input=b"hi\n", stdout=full, stderr=subprocess.PIPE, check=False)

    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "output" in line


def test_log_out_and_in_again(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is taught is exported as one line of JSON a pair, whatever is in it; the file can be imported."""
    awkward = "two\u2028lines\x85and\x0bmore"
    assert run("chat", "--model", "echo", stdin=f"hi\n/teach {awkward}\nunrated\n").code == 0
    file = tmp_path / "out" / "log.jsonl"
    exported = run_here(capsys, "export")
    assert run_here(capsys, "export", file).out == ""

    assert exported.out == file.read_text("utf-8")
    (record,) = map(json.loads, exported.lines)
    assert record["turns"] == ["hi", awkward]
    assert set(record["message_ids"]) <= {row for (row,) in rows(home, "SELECT id FROM message")}
    assert "1 pairs, sha256 " in exported.err
    assert "left out: 1 (unrated bot reply)" in exported.err

    preview = run_here(capsys, "import", "jsonl", file, "--dry-run")
    assert (preview.code, preview.out) == (0, "1 dialogues with 2 turns would be stored\n")
    assert rows(home, "SELECT count(*) FROM import_batch") == [(0,)]
    stored = run_here(capsys, "import", "jsonl", file, "--consent", "our own words")
    assert (stored.code, stored.out, stored.err) == (0, "1 dialogues with 2 turns stored\n", "")
    assert rows(home, "SELECT source, declaration FROM import_batch") == [("log.jsonl", "our own words")]
    stats = json.loads(run_here(capsys, "stats", "--learnable", "--json").out)
    assert stats["messages"] == {"import": 2, "terminal": 2}
    assert (stats["learnable"], stats["left_out"]) == (2, {"unrated bot reply": 1})
    assert "learnable    2" in run_here(capsys, "stats", "--learnable").lines


def test_database_commands(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`db upgrade` makes a database and says nothing with --quiet; `check` finds it sound; `backup` copies it once."""
    assert run_here(capsys, "db", "upgrade", "--quiet") == Done(0, "", "")
    assert run_here(capsys, "db", "upgrade").out == "the database is current\n"
    assert run_here(capsys, "db", "check").out == "the database is sound\n"
    assert run_here(capsys, "db", "backup", tmp_path / "copy.db").code == 0
    assert "exists already" in run_here(capsys, "db", "backup", tmp_path / "copy.db").complaint
    (home / "chatbot.db").write_bytes((home / "chatbot.db").read_bytes()[:5000])
    done = run_here(capsys, "db", "check")
    assert done.code == 1
    assert done.out


def test_a_backup_is_put_back(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`db restore` brings back what `db backup` took, keeps what was there, and refuses what is no backup."""
    assert run_here(capsys, "db", "restore", tmp_path / "copy.db").code == 2
    run_here(capsys, "db", "upgrade", "--quiet")
    assert run_here(capsys, "db", "backup", tmp_path / "copy.db").code == 0

    done = run_here(capsys, "db", "restore", tmp_path / "copy.db")

    assert done.code == 0
    assert done.lines[0].startswith(f"restored from {tmp_path}/copy.db; what was there is kept in {home}")
    assert done.lines[1] == "the database is sound"


def test_a_store_is_copied(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`db copy` tells how many rows, and what to do next; a second copy to the same place is refused."""
    assert run("chat", "--model", "echo", stdin="hi\n").code == 0
    places = [f"sqlite:///{home}/chatbot.db", f"sqlite:///{tmp_path}/other.db"]

    done = run_here(capsys, "db", "copy", *places)

    assert done.code == 0
    assert done.lines[0] == "4 rows copied, 2 messages among them"
    assert "CHATBOT_DATABASE_URL" in done.lines[1]
    assert "holds rows already" in run_here(capsys, "db", "copy", *places).complaint


def test_logs_are_shown_and_searched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line or an object for each message, nothing in it that a terminal would act on, however it was asked for."""
    nasty = "lunch? \x1b]0;owned\x07\u202e today"
    lines = f"{nasty}\n/good\n/teach soup\nhello\n"
    assert run("chat", "--model", "echo", "--chat", "kitchen", stdin=lines).code == 0

    everything = run_here(capsys, "logs")
    (found,) = run_here(capsys, "logs", "--json", "--rating", "good", "LUNCH today").lines
    record = json.loads(found)

    assert (everything.code, len(everything.lines)) == (0, 4)
    assert all("\x1b" not in line and "\u202e" not in line for line in everything.lines)
    assert everything.lines[1].endswith(" today (+1; taught: soup)")
    assert (record["role"], record["rating"], record["taught"], record["chat"]) == ("bot", 1, "soup", "kitchen")
    assert run_here(capsys, "logs", "--chat", "kitchen", "--limit", "1").lines == everything.lines[-1:]
    nothing = run_here(capsys, "logs", "--until", "2020-01-01")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "nothing found\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "--since 'yesterday' is no time"),
        (("--until", "2026-13-01"), "--until '2026-13-01' is no time"),
        (("--since", "0001-01-01T00:00+14:00"), "is no time"),
        (("--limit", "0"), "--limit is 0"),
        (("--rating", "great"), "invalid choice"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and the value that is wrong."""
    done = run_here(capsys, "logs", *arguments)

    assert done.code == 2
    assert said in done.complaint


def test_nothing_is_promoted_without_its_database(
    home: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a database that cannot be used, `models promote` and `rollback` change nothing."""
    assert run_here(capsys, "models", "add", model_folder, "mine").code == 0
    (home / "chatbot.db").write_text("not a database, " * 500, encoding="utf-8")

    for arguments in (["promote", "mine"], ["rollback"]):
        assert "not a SQLite database" in run_here(capsys, "models", *arguments).complaint
    assert not (home / "models" / "live").exists()
    (home / "chatbot.db").unlink()
    assert run_here(capsys, "models", "promote", "mine").code == 0
    assert (home / "models" / "live").read_text() == "mine\n"
    assert run_here(capsys, "models", "verify", "mine").out == "mine: sound\n"
