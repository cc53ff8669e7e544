"""Path one through the outer interface: a line into `chatbot chat`, a line out, and what SQLite holds then."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from running import command, rows, run

STARTER = Path(str(files("chatbot"))) / "starter"
TALK = "SELECT role, text, model_id, engine FROM message ORDER BY id"


def test_line_in_line_out_and_two_rows(home: Path, model_folder: Path) -> None:
    """Each piped line gives one line and two rows; the reply's row says which model, how decoded, how long it took."""
    settings = ("--set", "temperature=0.8", "--set", "top_k=9", "--seed", "7")
    done = run(
        "chat", "--model", model_folder, "--chat", "kitchen", *settings, stdin="hi\n你叫什么名字？\n/reset\nhi\n"
    )

    assert (done.code, done.err, len(done.lines)) == (0, "", 4)
    found = rows(home, "SELECT role, text, model_id, decode_json, seed, latency_ms, score, reply_to_id FROM message")
    assert [row[1] for row in found[::2]] == ["hi", "你叫什么名字？", "hi"]
    assert [row[1] for row in found[1::2]] == [*done.lines[:2], done.lines[3]]
    assert [row[0] for row in found] == ["user", "bot"] * 3
    for _, _, model, decode, seed, latency, score, _ in found[1::2]:
        assert (model, seed) == ("tiny-model", 7)
        assert json.loads(decode).items() >= {"temperature": 0.8, "top_k": 9, "max_tokens": 17}.items()
        assert 0 < latency < 60_000
        assert score < 0
    assert [row[7] for row in found] == [None, 1, None, 3, None, 5]
    assert done.lines[3] == done.lines[0]  # the same seed and the same past, the same words


def test_chats_have_names_and_go_on(home: Path) -> None:
    """--chat starts or goes on with a chat, -c with the last one written in; without either a new one begins."""
    nothing = run("chat", "--model", "echo", "-c", stdin="hi\n")
    assert nothing.code == 2
    assert "no chat to go on with" in nothing.complaint
    for arguments, line in (
        (["--chat", "kitchen"], "one"),
        ([], "two"),
        (["--chat", "kitchen"], "three"),
        (["-c"], "four"),
    ):
        assert run("chat", "--model", "echo", *arguments, stdin=f"{line}\n").lines == [line]

    found = rows(home, "SELECT c.id, m.text FROM message m JOIN chat c ON c.id = m.chat_id WHERE role = 'user'")
    assert [text for _, text in found] == ["one", "two", "three", "four"]
    kitchen, other = found[0][0], found[1][0]
    assert [chat for chat, _ in found] == [kitchen, other, kitchen, kitchen]
    assert kitchen != other


def test_json_and_commands(home: Path) -> None:
    """--json prints one object a line with what produced it; command lines answer and are not stored."""
    lines = ["hi", "/teach hello there", "/good", "/stats", "/nonsense", "I want to kill myself", "", "bye"]
    done = run("chat", "--model", "echo", "--json", stdin="\n".join(lines) + "\n")

    answers = [json.loads(line) for line in done.lines]
    assert (done.code, done.err, len(answers)) == (0, "", len(lines))
    assert {"text", "model", "ms", "engine", "settings"} <= answers[0].keys()
    assert [answer["engine"] for answer in answers] == ["echo", *["command"] * 4, "rules", None, "echo"]
    assert "kill" not in answers[5]["text"]
    found = rows(home, TALK)
    assert [text for role, text, _, _ in found if role == "user"] == ["hi", "I want to kill myself", "bye"]
    assert [engine for role, _, _, engine in found if role == "bot"] == ["echo", "rules", "echo"]
    assert rows(home, "SELECT text FROM correction") == [("hello there",)]
    assert rows(home, "SELECT rating FROM feedback") == [(1,)]


def test_no_log_leaves_nothing(home: Path, tmp_path: Path) -> None:
    """--no-log answers as ever, remembers within the chat, and leaves no file and no folder behind."""
    before = set(tmp_path.rglob("*"))
    done = run(
        "chat", "--model", "echo", "--no-log", stdin="hi\n/good\n", cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd())}
    )

    assert (done.code, done.lines[0], len(done.lines)) == (0, "hi", 2)
    assert set(tmp_path.rglob("*")) == before
    assert not home.exists()


def test_rows_are_committed_before_the_reply_shows(home: Path) -> None:
    """A chat killed at the moment its reply can be read has lost neither what was said nor what was answered."""
    with subprocess.Popen(command("chat", "--model", "echo"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as chat:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(b"bonjour\n")
        chat.stdin.flush()
        assert chat.stdout.readline() == b"bonjour\n"
        chat.kill()

    assert rows(home, TALK) == [("user", "bonjour", None, None), ("bot", "bonjour", "echo", "echo")]
    assert run("db", "check").code == 0


def test_a_line_without_a_reply_is_kept(home: Path, model_folder: Path) -> None:
    """Where no reply can be made, the line is in the log all the same, the fault is said, and the chat goes on."""
    lines = "/set temperature=99\nremember this\n/set temperature=\nand this\n"
    done = run("chat", "--model", model_folder, stdin=lines)

    assert len(done.lines) == 4
    assert "temperature is 99" in done.complaint
    assert done.code == 1
    assert [(role, text) for role, text, _, _ in rows(home, TALK)][:2] == [
        ("user", "remember this"),
        ("user", "and this"),
    ]
    assert len(rows(home, TALK)) == 3


@pytest.mark.skipif(not (STARTER / "config.json").is_file(), reason="the starter model is not in this checkout yet")
def test_starter_answers(home: Path) -> None:
    """`chatbot chat` alone talks with the shipped model, and its rows say so."""
    done = run("chat", stdin="hi\nwhat is your name?\n")

    assert done.code == 0
    assert [bool(line.strip()) for line in done.lines] == [True, True]
    assert [model for role, _, model, _ in rows(home, TALK) if role == "bot"] == ["starter"] * 2
