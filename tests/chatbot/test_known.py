"""Known exchanges: which questions are taken for known, where in a talk, and which of several replies is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatbot.errors import UsageError
from chatbot.known import KnownExchanges, near

JOKES = ["Why did the bicycle fall over? It was two tired.", "What do you call a fake noodle? An impasta."]
DIALOGUES = [
    {"id": "joke-1", "turns": ["Tell me a joke!", JOKES[0], "another one", JOKES[1]]},
    {"id": "joke-2", "turns": ["tell me a joke", JOKES[1]]},
    {"id": "yes", "opening": True, "turns": ["yes", "Yes to what?"]},
    {"id": "name", "turns": ["what is your name?", "Familect.", "Why that name?", "It is short for family dialect."]},
    {"id": "zh", "turns": ["讲个笑话", "馒头去健身。", "再来一个", "豆腐去面试。"]},
]


@pytest.fixture
def known(tmp_path: Path) -> KnownExchanges:
    """The dialogues above."""
    path = tmp_path / "known.jsonl"
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in DIALOGUES), encoding="utf-8")
    return KnownExchanges(path)


@pytest.mark.parametrize(
    ("text", "dialogue"),
    [
        ("What is your name?", "name"),
        ("WHAT IS YOUR NAME", "name"),
        ("what is you name?", "name"),
        ("讲个笑话！", "zh"),
        ("what is her name?", None),
        ("is", None),
        ("", None),
        ("what is your name? " * 40, None),
    ],
)
def test_only_nearly_the_same_words_are_known(known: KnownExchanges, text: str, dialogue: str | None) -> None:
    """Case, punctuation and a slip in a line of some length do not matter; another word does."""
    found = known.answer([], text)

    assert (found and found.dialogue) == dialogue


def test_a_first_line_is_known_anywhere_an_opening_at_the_start_alone(known: KnownExchanges) -> None:
    """A joke can be asked for at any time; "yes" answers what was asked before."""
    talk = ["hi", "Hi! Do you like tea?"]

    assert known.answer(talk, "what is your name?") is not None
    assert known.answer([], "yes") is not None
    assert known.answer(talk, "yes") is None


def test_later_lines_are_known_behind_the_line_that_they_answer(known: KnownExchanges) -> None:
    """ "another one" continues the joke that was told, and nothing else."""
    found = known.answer(["joke please", JOKES[0]], "Another one!")

    assert found is not None
    assert (found.text, found.dialogue) == (JOKES[1], "joke-1")
    assert known.answer(["joke please", "I know none."], "another one") is None


def test_what_was_said_is_not_said_again(known: KnownExchanges) -> None:
    """Of several replies one that the talk does not hold is given; when all are used up, none."""
    talk: list[str] = []
    for _ in JOKES:
        found = known.answer(talk, "tell me a joke")
        assert found is not None
        assert found.text not in talk
        talk += ["tell me a joke", found.text]

    assert known.answer(talk, "tell me a joke") is None


def test_the_seed_chooses_among_replies(known: KnownExchanges) -> None:
    """The same seed gives the same reply; all are given by one seed or another."""
    replies = [[known.answer([], "tell me a joke", seed) for _ in range(2)] for seed in range(8)]

    assert all(one == other for one, other in replies)
    assert {one.text for one, _ in replies if one is not None} == set(JOKES)


def test_near_finds_all_that_would_be_taken_for_it() -> None:
    """What shadows a taught question is judged as the answering judges."""
    assert sorted(near("what is your name", {"what is your name", "what is you name", "who are you"})) == [
        "what is you name",
        "what is your name",
    ]


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    """One line, with the number of the line at fault."""
    path = tmp_path / "known.jsonl"
    path.write_text('{"turns": ["hi", "hello"]}\n{"turns": ["hi"]}\n', encoding="utf-8")

    with pytest.raises(UsageError, match="line 2"):
        KnownExchanges(path)
