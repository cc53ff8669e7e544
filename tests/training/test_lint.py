"""The linter of dialogue files: what is named, what is let through, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import run_here
from tiny import write_dialogues

from training.lint import Linter, _shingles

LONG = "a story about a lighthouse keeper who counted ships"


def problems(path: Path) -> list[tuple[int, str]]:
    """Line and problem of each finding, the file's and those about the whole."""
    linter = Linter()
    return [(f.line, f.problem) for f in [*linter.read(path), *linter.repeated()]]


@pytest.mark.parametrize(
    ("record", "part"),
    [
        ({"turns": ["hi", "hello", "bye"]}, "3 turns: the person begins"),
        ({"turns": ["hi", "x" * 241]}, "a turn of 241 characters"),
        ({"turns": list("abcdefghijklmn")}, "14 turns, more than 12"),
        ({"turns": ["hi", "hello", "more", "Hello!"]}, "the bot says the same twice running"),
        ({"turns": ["tell me", "Tell me."]}, "a reply repeats what was said to it"),
        ({"turns": ["hi", "你好"], "lang": "en"}, "a reply is not in the language of the dialogue, en"),
        ({"turns": ["你好", "hello"], "lang": "zh"}, "a reply is not in the language of the dialogue, zh"),
        ({"turns": ["hi"]}, "fewer than two turns"),
    ],
)
def test_a_bad_dialogue_is_named_by_its_line(tmp_path: Path, record: dict[str, object], part: str) -> None:
    """One finding, at the line of the dialogue, behind a good one that has none."""
    path = write_dialogues(tmp_path / "talk.jsonl", [{"turns": ["tea?", "with milk"], "lang": "en"}, record])

    ((line, problem),) = [found for found in problems(path) if "stands" not in found[1]]

    assert line == 2
    assert problem.startswith(part)


def test_what_stands_twice_is_named(tmp_path: Path) -> None:
    """The same id, the same beginning, nearly the same words; but not the same question with another way to go on."""
    count = "there was one who counted to nine and slept"
    talk: list[dict[str, object]] = [
        {"id": "a", "turns": [f"tell me {LONG}", count, "and", "he woke at ten"]},
        {"id": "a", "turns": ["something", "else entirely"]},
        {"turns": [f"Tell me {LONG}!", f"{count}.", "And?", "He woke at ten!"]},
        {
            "turns": [
                f"tell me {LONG}",
                count,
                "no",
                "you only want to hear of the ships, not of him and his nine",
            ]
        },
        {"turns": [f"please tell me {LONG}", f"{count} well", "so", "he woke at ten"]},
    ]
    path = write_dialogues(tmp_path / "talk.jsonl", talk)

    assert problems(path) == [
        (2, f"its id a stands at {path}:1 already"),
        (3, f"begins as {path}:1 does"),
        (5, f"nearly the same as {path}:1"),
        (5, f"nearly the same as {path}:3"),
    ]


def test_a_reply_that_is_everywhere_is_named(tmp_path: Path) -> None:
    """Four times is too often in a small file, three times is not."""
    path = write_dialogues(tmp_path / "talk.jsonl", [{"turns": [f"q{i}", "I see."]} for i in range(4)])
    fewer = write_dialogues(tmp_path / "fewer.jsonl", [{"turns": [f"q{i}", "I see."]} for i in range(3)])

    assert problems(path) == [(1, "this reply stands 4 times: 'i see'")]
    assert problems(fewer) == []


def test_dialogues_of_other_files_are_recognised(tmp_path: Path) -> None:
    """One that stands inside a longer one elsewhere is named with that one's id, once; the others are not."""
    mine = write_dialogues(tmp_path / "mine.jsonl", [{"turns": ["hi", "hello"]}, {"turns": [LONG, "nine of them"]}])
    longer = {"id": "far", "turns": ["well then", f"once more {LONG}", "nine of them", "that is all"]}
    other = write_dialogues(tmp_path / "other.jsonl", [longer, longer, {"turns": ["hi", "hello"]}])
    linter = Linter()

    assert list(linter.read(mine)) == []

    found = [(f.path, f.line, f.problem) for f in linter.against([other])]
    assert found == [(mine, 2, "nearly the same as dialogue far of another file")]


def test_the_command_says_what_to_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings on stdout, the balance on stderr or as JSON; the exit code tells whether there were any."""
    path = write_dialogues(tmp_path / "talk.jsonl", [{"turns": ["tea?", "with milk?", "no", "then black"]}])
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"\xff\n{\n")

    done = run_here(capsys, "lint", str(path))
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("nothing to mend\n")
    assert "replies that ask something              50%" in done.err
    done = run_here(capsys, "lint", str(bad), "--json")
    assert done.code == 1
    findings = [json.loads(line) for line in done.out.splitlines()]
    assert [f.get("problem") for f in findings] == ["not UTF-8", "not JSON", None]
    assert findings[2]["balance"]["dialogues"] == "0"
    assert "cannot be read" in run_here(capsys, "lint", str(tmp_path / "absent.jsonl")).complaint


@given(st.lists(st.text(max_size=30), max_size=5))
def test_shingles_ignore_case_and_punctuation(turns: list[str]) -> None:
    """What is compared does not change with either, whatever the script."""
    assert _shingles(turns) == _shingles([f"{turn.upper().lower()}!" for turn in map(str.lower, turns)])
