"""Dialogue files: good lines are read, bad ones counted with their number, broken files named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from chatbot.errors import UsageError
from training import corpus
from training.corpus import Dialogue, ReadReport, asked_otherwise, held_out, parse_dialogue, read_dialogues

GOOD = '{"id": "a", "turns": ["hi", "hello"]}'
labels = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5) | st.just([1])
records = st.fixed_dictionaries(
    {"turns": st.lists(st.text(st.characters(), max_size=7) | st.none(), max_size=4) | labels},
    optional={
        "id": labels,
        "source": labels,
        "license": labels,
        "q": labels,
        "tags": st.lists(labels),
        "learn": labels,
    },
)


def read(path: Path) -> tuple[list[Dialogue], ReadReport]:
    """All dialogues of a file, and the report."""
    report = ReadReport()
    return list(read_dialogues([path], report)), report


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(UsageError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@given(line=st.text(max_size=40) | records.map(json.dumps) | st.recursive(labels, st.lists).map(json.dumps))
@example(line='{"turns": ["hi", "hello"], "q": 1' + "0" * 400 + "}")
@example(line='{"turns": ["hi", "hello"], "id": "\\ud800", "source": "\\udfff", "license": "\\ud800"}')
@example(line="[" * 50_000)
@example(line="9" * 5000)
def test_any_line_is_parsed_or_refused(line: str) -> None:
    """A line gives a dialogue that can be hashed and stored, or a ValueError in plain words; nothing else."""
    try:
        dialogue = parse_dialogue(line)
    except ValueError:
        return
    assert len(dialogue.turns) >= 2
    assert all(dialogue.turns)
    held_out(dialogue.id, 10)
    "".join((dialogue.id, dialogue.source, dialogue.license, *dialogue.turns)).encode("utf-8")
    assert dialogue.source


@given(
    data=st.binary(max_size=60)
    | st.lists(st.sampled_from([GOOD, "x", "", "\ufeff"])).map(lambda t: "\n".join(t).encode()),
    packed=st.booleans(),
)
@example(data=zstandard.compress(GOOD.encode()), packed=False)
def test_any_file_is_read_or_refused(data: bytes, packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever bytes a file holds, plain or under the name of a compressed one, nothing but UsageError comes out."""
    path = tmp_path_factory.mktemp("data") / ("d.jsonl.zst" if packed else "d.jsonl")
    path.write_bytes(data)

    message = str(path)
    try:
        assert read(path)[0]
    except UsageError as error:
        message = str(error)
    assert str(path) in message


def test_a_record_becomes_a_dialogue() -> None:
    """Turns are cleaned; a persona is the source; "learn": "last" and "q" are kept."""
    record = {
        "id": 7,
        "source": "spc",
        "tags": ["x", "persona:ann"],
        "license": "MIT",
        "q": 3,
        "learn": "last",
        "turns": [" hi\n", "cafe\u0301"],
    }

    assert Dialogue("7", "persona:ann", "MIT", ("hi", "caf\u00e9"), 3.0, True) == parse_dialogue(json.dumps(record))


def test_other_ways_to_ask_are_first_exchanges_of_little_weight() -> None:
    """Each line of `also`, cleaned, with the reply to the first line and no more; the dialogue stays as it was."""
    record = {
        "id": "a",
        "also": [" Tea for you?", "", 3, "some tea?"],
        "turns": ["Tea?", "Yes, please.", "Milk?", "A drop."],
    }
    dialogue = parse_dialogue(json.dumps(record))

    others = list(asked_otherwise(dialogue))

    assert [other.turns for other in others] == [("Tea for you?", "Yes, please."), ("some tea?", "Yes, please.")]
    assert {(other.id, other.source, other.also) for other in others} == {("a", "other", ())}
    assert (dialogue.share, {other.share for other in others}) == (1.0, {0.25})
    assert list(asked_otherwise(replace(dialogue, last_only=True))) == []


def test_labels_have_defaults() -> None:
    """Without id, source and licence: the hash of the turns, "other" and "unknown"."""
    first, second = parse_dialogue(GOOD.replace('"id": "a", ', "")), parse_dialogue('{"turns": ["hi", "hello!"]}')

    assert (first.source, first.license, first.quality, first.last_only) == ("other", "unknown", None, False)
    assert len(first.id) == 16
    assert first.id != second.id


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"turns": "hi"}', '"turns" is not a list of texts'),
        ('{"turns": ["hi", 3]}', '"turns" is not a list of texts'),
        ('{"turns": ["hi"]}', "fewer than two turns, or an empty one"),
        ('{"turns": ["hi", " \\u200b"]}', "fewer than two turns, or an empty one"),
    ],
)
def test_bad_lines_are_counted_with_their_number(tmp_path: Path, line: str, reason: str) -> None:
    """A bad line 7 is left out, the others are read, and the report says which line and why."""
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join([GOOD] * 6 + [line] + [GOOD] * 2), encoding="utf-8")

    dialogues, report = read(path)

    assert (len(dialogues), report.dialogues, report.turns) == (8, 8, 16)
    assert {reason: 1} == report.skipped
    assert [f"d.jsonl line 7: {reason}"] == report.problems


def test_a_line_that_is_not_utf8_is_counted(tmp_path: Path) -> None:
    """Bytes of another encoding cost their line only."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + b'{"turns": ["\xe9\xff", "hello"]}\n' + GOOD.encode())

    dialogues, report = read(path)

    assert len(dialogues) == 2
    assert report.problems == ["d.jsonl line 2: not UTF-8"]


def test_only_the_first_problems_are_kept(tmp_path: Path) -> None:
    """A file of rubbish does not fill the memory with complaints; all of them are counted."""
    path = tmp_path / "d.jsonl"
    path.write_text("x\n" * 1009 + GOOD, encoding="utf-8")

    _, report = read(path)

    assert (report.skipped["not JSON"], len(report.problems)) == (1009, 5)


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.encode() + b"\r\n\r\n" + GOOD.encode() + b"\r\n"]
)
def test_files_of_other_systems_are_read(tmp_path: Path, data: bytes) -> None:
    """A byte order mark, CRLF and blank lines are no problems."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(data)

    dialogues, report = read(path)

    assert len(dialogues) == data.count(b"turns")
    assert report.problems == []


@pytest.mark.parametrize("chunk", [1, 2, 7, 2**20])
def test_several_frames_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Compressed files put behind one another read as one, wherever the pieces of reading end."""
    monkeypatch.setattr(corpus, "_CHUNK_BYTES", chunk)
    path = tmp_path / "d.jsonl.zst"
    path.write_bytes(b"".join(zstandard.compress(f"{GOOD}\n".encode()) for _ in range(3)))

    assert len(read(path)[0]) == 3


@pytest.mark.parametrize("chunk", [7, 2**20])
def test_a_cut_off_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """A compressed file without its end is named, wherever the cut is; no part of it passes for the whole."""
    monkeypatch.setattr(corpus, "_CHUNK_BYTES", chunk)
    whole = zstandard.compress(f"{GOOD}\n".encode() * 53)
    path = tmp_path / "d.jsonl.zst"
    for cut in (5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])

        assert "cut off in the middle" in refused(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Not zstd, changed inside, empty, without dialogues, absent, a folder: each has its line."""
    path = tmp_path / "d.jsonl.zst"
    path.write_bytes(b"plain text")
    assert "damaged or not zstd" in refused(path)
    data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(f"{GOOD}\n".encode() * 53))
    data[-1] ^= 1
    path.write_bytes(data)
    assert "damaged or not zstd" in refused(path)
    path.write_bytes(b"")
    assert "holds no dialogue;" in refused(path)
    (tmp_path / "e.jsonl").write_text("\n\n", encoding="utf-8")
    assert "holds no dialogue;" in refused(tmp_path / "e.jsonl")
    (tmp_path / "f.jsonl").write_text("what\nis this", encoding="utf-8")
    assert "holds no dialogue (f.jsonl line 1: not JSON)" in refused(tmp_path / "f.jsonl")
    assert "No such file" in refused(tmp_path / "absent.jsonl")
    assert "Is a directory" in refused(tmp_path)


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without line ends is not read into memory whole."""
    monkeypatch.setattr(corpus, "_CHUNK_BYTES", 101)
    monkeypatch.setattr(corpus, "_MAX_LINE_BYTES", 997)
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"x" * 5003)

    assert "write one dialogue a line" in refused(path)


def test_files_are_read_in_order(tmp_path: Path) -> None:
    """Several files are one stream; each must hold something."""
    paths: list[Path] = []
    for name in "ba":
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_text(GOOD.replace('"a"', f'"{name}"'), encoding="utf-8")

    assert [dialogue.id for dialogue in read_dialogues(paths)] == ["b", "a"]


def test_held_out_is_a_fixed_share() -> None:
    """About per_mille of the ids, always the same ones, and more of them for a larger share."""
    ids = [f"talk-{number}" for number in range(10_007)]
    small, large = ({i for i in ids if held_out(i, share)} for share in (50, 100))

    assert small < large
    assert 0.04 < len(small) / len(ids) < 0.06
    assert not any(held_out(i, 0) for i in ids)


def test_turns_are_any_json_texts(tmp_path: Path) -> None:
    """Escapes, lone surrogates among them, are read as text that can be written again."""
    record: dict[str, Any] = {"turns": ["\ud800 hi", "\u4f60\u597d"]}
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")

    assert read(path)[0][0].turns == ("\ufffd hi", "\u4f60\u597d")
