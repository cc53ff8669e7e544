"""Two programs on one database at the same time: both work, and nothing of either is lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

from running import command, rows, run

LINES = 25


def test_two_chats_on_one_database(home: Path) -> None:
    """Two chats that begin together on a machine without a database both answer, and every row of both is there.

    They go on with the same chat of one name, so they write the same rows' parents as well.
    """
    chats = [
        subprocess.Popen(
            command("chat", "--model", "echo", "--chat", "kitchen"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [[f"{name} {number}" for number in range(LINES)] for name in ("tea", "milk")]
    for chat, lines in zip(chats, said, strict=True):
        assert chat.stdin is not None
        chat.stdin.write("".join(f"{line}\n" for line in lines).encode())
        chat.stdin.flush()  # both are at work before either is waited for
    for chat, lines in zip(chats, said, strict=True):
        out, err = chat.communicate(timeout=120)
        assert (chat.returncode, err) == (0, b"")
        assert out.decode().splitlines() == lines

    assert rows(home, "SELECT count(*) FROM chat") == rows(home, "SELECT count(*) FROM person") == [(1,)]
    for lines in said:
        asked = [(line, line) for line in lines]
        pairs = "SELECT q.text, a.text FROM message q JOIN message a ON a.reply_to_id = q.id ORDER BY q.id"
        assert [pair for pair in rows(home, pairs) if pair[0] in lines] == asked
    assert run("db", "check").out == "the database is sound\n"
