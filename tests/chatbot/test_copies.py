"""Copies of stored words outside the database: found, cleaned row by row, and left alone where they are not ours."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chatbot.copies import Copies
from chatbot.errors import UsageError

STARTED = datetime.now(UTC)


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    """The copies of an empty state folder."""
    return Copies(tmp_path / "home")


def line(*rows: int) -> str:
    """A line of an export."""
    return json.dumps({"message_ids": rows, "turns": [f"words of {row}" for row in rows]}) + "\n"


def seven_is_gone(ids: Collection[int], since: datetime) -> set[int]:
    """Row 7 was erased."""
    assert since >= STARTED
    return {7} & set(ids)


def test_lines_with_rows_that_are_gone_go(copies: Copies, tmp_path: Path) -> None:
    """The rest of the file stays byte for byte, a file of nothing else is deleted, one without such rows untouched."""
    files = {"mixed": line(1, 7) + line(2) + line(7), "only": line(7), "none": line(1)}
    for name, text in files.items():
        copies.remember(tmp_path / name)
        (tmp_path / name).write_text(text)

    changed = copies.clean(seven_is_gone)

    assert {path.name for path in changed} == {"mixed", "only"}
    assert (tmp_path / "mixed").read_text() == line(2)
    assert not (tmp_path / "only").exists()
    assert (tmp_path / "none").read_text() == line(1)
    assert copies.clean(seven_is_gone) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "mixed", "none"}


def test_what_was_made_of_a_copy_goes_with_it(copies: Copies, tmp_path: Path) -> None:
    """Files and folders made from a file that lost a row are deleted, down to what was made of these."""
    for name, of in (("log", None), ("lessons", "log"), ("tokens", "lessons"), ("other", None), ("kept", "other")):
        copies.remember(tmp_path / name, of=tmp_path / of if of else None)
    (tmp_path / "log").write_text(line(7) + line(1))
    (tmp_path / "lessons").write_text("words\n")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "part").write_text("1 2 3")
    (tmp_path / "other").write_text(line(1))
    (tmp_path / "kept").write_text("words\n")

    copies.clean(seven_is_gone)

    assert {path.name for path in tmp_path.iterdir()} == {"home", "log", "other", "kept"}


def test_a_file_that_somebody_put_in_its_place_is_left_alone(copies: Copies, tmp_path: Path) -> None:
    """What is no line of ours stays, whatever it is, beside lines that go."""
    strange = b'\xff\xfe\n[1, 2]\n{"message_ids": "7"}\n{"message_ids": ["7", -7, 1e400]}\n' + b"[" * 2000 + b"\n"
    copies.remember(tmp_path / "file")
    (tmp_path / "file").write_bytes(strange + line(7).encode())

    copies.clean(seven_is_gone)

    assert (tmp_path / "file").read_bytes() == strange


def test_whole_copies_are_listed_not_cleaned(copies: Copies, tmp_path: Path) -> None:
    """Backups by their age: those noted, and those that an upgrade left beside the database; what is gone is not."""
    for name in ("backup.db", "gone.db", "replaced.db"):
        (tmp_path / name).write_text(line(7))
        copies.remember(tmp_path / name, whole=True)
    (tmp_path / "gone.db").unlink()
    os.utime(tmp_path / "replaced.db", (2e9, 2e9))
    (tmp_path / "chatbot.db").write_text("")
    (tmp_path / "chatbot.db.0001-20260503T120000Z.bak").write_text("")

    assert copies.clean(seven_is_gone) == []
    assert {path.name for path in copies.whole(tmp_path / "chatbot.db")} == {
        "backup.db",
        "chatbot.db.0001-20260503T120000Z.bak",
    }
    assert [path.name for path in copies.whole(None)] == ["backup.db"]


def test_a_list_cut_off_in_the_middle_of_a_note_is_read(copies: Copies, tmp_path: Path) -> None:
    """The notes before are not lost with the last one, and none is read as another."""
    copies.remember(tmp_path / "file")
    (tmp_path / "file").write_text(line(7))
    with (tmp_path / "home" / "copies.jsonl").open("a") as stream:
        stream.write('{"path": "/')
    copies.remember(tmp_path / "next")
    (tmp_path / "next").write_text(line(7))

    assert copies.clean(seven_is_gone) == [tmp_path / "file", tmp_path / "next"]


def test_a_copy_that_cannot_be_cleaned_does_not_keep_the_others(
    copies: Copies, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in a warning, and those noted after it are cleaned all the same."""
    for name in ("folder", "file"):
        copies.remember(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text(line(7))

    assert copies.clean(seven_is_gone) == [tmp_path / "file"]
    assert f"cannot be taken out of {tmp_path / 'folder'}" in caplog.text


def test_nothing_is_written_that_cannot_be_noted(copies: Copies, tmp_path: Path) -> None:
    """A list that cannot be written is one line that says so, before the copy is made."""
    (tmp_path / "home" / "copies.jsonl").mkdir(parents=True)

    with pytest.raises(UsageError, match=r"copies\.jsonl cannot be written"):
        copies.remember(tmp_path / "file")


def test_the_list_is_private(copies: Copies, tmp_path: Path) -> None:
    """Only its owner may read where copies lie."""
    copies.remember(tmp_path / "file")

    assert (tmp_path / "home" / "copies.jsonl").stat().st_mode & 0o077 == 0
