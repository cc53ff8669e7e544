"""Known exchanges: which questions are taken for known, where in a talk, and which of several replies is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatbot.errors import UsageError
from chatbot.known import KnownExchanges

JOKES = ["Why did the bicycle fall over? It was two tired.", "What do you call a fake noodle? An impasta."]
DIALOGUES = [
    {"id": "joke-1", "turns": ["Tell me a joke!", JOKES[0], "another one", JOKES[1]]},
    {"id": "joke-2", "turns": ["tell me a joke", JOKES[1]]},
    {"id": "yes", "opening": True, "turns": ["yes", "Yes to what?"]},
    {
        "id": "name",
        "turns": ["what is your name?", "Familect.", "Why that name?", "It is short for family dialect."],
        "also": ["What does your family call you?"],
    },
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
        ("hey, whats ur name lol", "name"),
        ("what is your naem", None),
        ("What does your family call you", "name"),
        ("can you tell me a joke please", "joke-1"),
        ("tell me a good joke", None),
        ("do not tell me a joke", None),
        ("请给我讲一个笑话吧", "zh"),
        ("别讲笑话", None),
        ("讲个笑话！", "zh"),
        ("what is her name?", None),
        ("is", None),
        ("", None),
        ("what is your name? " * 40, None),
    ],
)
def test_only_nearly_the_same_words_are_known(known: KnownExchanges, text: str, dialogue: str | None) -> None:
    """Case, punctuation, spelling and fillers do not matter, nor which of its ways to be asked; another word does."""
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


def test_another_one_is_another_of_the_same(tmp_path: Path) -> None:
    """ "Another one" asks again what was asked, whichever dialogue the first came from, until there are no more."""
    path = tmp_path / "known.jsonl"
    lines = [{"id": joke, "turns": ["tell me a joke", joke]} for joke in JOKES]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    known = KnownExchanges(path)

    second = known.answer(["tell me a joke", JOKES[0]], "another one please")
    third = known.answer(["tell me a joke", JOKES[0], "another one", JOKES[1]], "one more!")

    assert second is not None
    assert (second.text, third) == (JOKES[1], None)
    assert known.answer(["tell me a joke", "I know none."], "another one") is None


def test_neighbours_are_replies_to_similar_first_lines(known: KnownExchanges) -> None:
    """The nearest first, the similarity of its question with it, none that was given before; nothing for nothing."""
    found = known.neighbours([], "joke for me", 2)
    rest = known.neighbours(["hi", JOKES[1]], "joke for me", 2)

    assert {reply.text for reply in found} == set(JOKES)
    assert all(0 < reply.similarity < 1 for reply in found)
    assert [reply.text for reply in rest] == [JOKES[0]]
    assert known.neighbours([], "sdfgh", 2) == []


def test_a_neighbour_is_about_the_same_and_of_the_same_kind(tmp_path: Path) -> None:
    """What lacks the rarest word counts for less, and so does a line that tells where one asks; "why?" has none."""
    path = tmp_path / "known.jsonl"
    told = ["my snail is called Turbo", "my cat is called Tom", "my dog is called Rex", "it is late", "my bike is new"]
    lines = [*told, "is a snail slow", "i like soup"]
    path.write_text("".join(json.dumps({"turns": [line, line]}) + "\n" for line in lines), encoding="utf-8")
    known = KnownExchanges(path)

    def likeness(text: str, line: str) -> float:
        return next((r.similarity for r in known.neighbours([], text, 9) if r.text == line), 0.0)

    assert likeness("my snail Turbo", told[0]) > 0.9
    assert likeness("my snail Turbo", told[1]) == 0  # of the rare words none
    assert likeness("a slow snail", "is a snail slow") == pytest.approx(
        0.8 * likeness("snail slow?", "is a snail slow")
    )
    assert known.neighbours([], "why?", 4) == []


def test_a_saved_index_answers_as_one_made_anew(tmp_path: Path, known: KnownExchanges) -> None:
    """With it the file need not be read; one that belongs to another file, or is damaged, is made anew."""
    fresh = [known.answer([], text) for text in ("whats ur name", "what is yuor naem", "讲个笑话吧")]
    known.save_index()
    index = tmp_path / "known.npz"

    saved = KnownExchanges(tmp_path / "known.jsonl")
    assert [saved.answer([], text) for text in ("whats ur name", "what is yuor naem", "讲个笑话吧")] == fresh
    assert saved.neighbours([], "joke for me", 2) == known.neighbours([], "joke for me", 2)

    (tmp_path / "known.jsonl").write_text('{"turns": ["ping", "pong"]}\n', encoding="utf-8")
    changed = KnownExchanges(tmp_path / "known.jsonl")
    index.write_bytes(b"no index")
    for other in (changed, KnownExchanges(tmp_path / "known.jsonl")):
        found = other.answer([], "ping")
        assert found is not None
        assert found.text == "pong"
        assert other.answer([], "whats ur name") is None


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    """One line, with the number of the line at fault."""
    path = tmp_path / "known.jsonl"
    path.write_text('{"turns": ["hi", "hello"]}\n{"turns": ["hi"]}\n', encoding="utf-8")

    with pytest.raises(UsageError, match="line 2"):
        KnownExchanges(path)
