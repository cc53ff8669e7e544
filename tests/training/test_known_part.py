"""Which dialogues a model takes along as known, and that what was taught otherwise is left to the net."""

from __future__ import annotations

import json
from pathlib import Path

from chatbot.known import KnownExchanges
from training.corpus import Dialogue
from training.known import KnownPart

OWN = [
    Dialogue("tea", "ours", "CC0-1.0", ("Do you like tea?", "Very much.", "Green tea?", "Black.")),
    Dialogue("yes", "ours", "CC0-1.0", ("yes", "Yes to what?"), opening=True),
    Dialogue("name", "ours", "CC0-1.0", ("What is your name?", "Familect.")),
]
OTHER = Dialogue("other", "books", "MIT", ("Who is there?", "A raven."))


def lesson(question: str, reply: str) -> Dialogue:
    """As `retrain` writes it: a question behind other talk, its last turn to be learnt."""
    return Dialogue("log-1", "log", "private", ("hm", "Yes?", question, reply), last_only=True)


def written(tmp_path: Path, *dialogues: Dialogue) -> list[dict[str, object]]:
    """What is in the file after these have passed; they all have passed on unchanged."""
    part = KnownPart("ours")
    assert list(part.watch(dialogues)) == list(dialogues)
    part.write(tmp_path / "known.jsonl")
    return [json.loads(line) for line in (tmp_path / "known.jsonl").read_text("utf-8").splitlines()]


def test_the_dialogues_of_the_answering_source_are_kept(tmp_path: Path) -> None:
    """With id, licence and the mark of an opening, ready to be read again; others are not."""
    records = written(tmp_path, *OWN, OTHER)

    assert [record["id"] for record in records] == ["tea", "yes", "name"]
    assert [record.get("opening", False) for record in records] == [False, True, False]
    assert {record["license"] for record in records} == {"CC0-1.0"}
    assert KnownExchanges(tmp_path / "known.jsonl").answer([], "who is there?") is None


def test_what_was_taught_otherwise_is_not_known(tmp_path: Path) -> None:
    """A taught question, nearly in the same words, ends the known dialogue before it, wherever it stands."""
    written(tmp_path, *OWN, lesson("what is you name", "Robin."), lesson("Green tea!", "With mint."))
    known = KnownExchanges(tmp_path / "known.jsonl")

    assert known.answer([], "What is your name?") is None
    assert known.answer([], "Do you like tea?") is not None
    assert known.answer(["Do you like tea?", "Very much."], "Green tea?") is None


def test_a_known_reply_that_was_taught_stays(tmp_path: Path) -> None:
    """Whoever likes the reply that stands there goes on getting it."""
    written(tmp_path, *OWN, lesson("What is your name?", "Familect."))

    assert KnownExchanges(tmp_path / "known.jsonl").answer([], "What is your name?") is not None


def test_other_ways_to_ask_go_along(tmp_path: Path) -> None:
    """`also` is known like the first line, but for what was taught otherwise."""
    asked = Dialogue(
        "age", "ours", "CC0-1.0", ("How old are you?", "Young."), also=("What is your age?", "Your years?")
    )

    (record,) = written(tmp_path, asked, lesson("your years", "Too many."))

    assert record["also"] == ["What is your age?"]


def test_what_is_near_to_a_taught_question_gives_way(tmp_path: Path) -> None:
    """A known line that would be taken for it, though other words stand in it, is not known any more."""
    near = Dialogue("tea", "ours", "CC0-1.0", ("What black tea do you drink in the mornings?", "None, I am a program."))
    taken = "what black tea do you usually drink in the mornings"
    others = [Dialogue(f"d{n}", "ours", "CC0-1.0", (f"word{n} usually", "Yes.")) for n in range(20)]

    written(tmp_path, near, *others)
    before = KnownExchanges(tmp_path / "known.jsonl").answer([], taken)
    written(tmp_path, near, *others, lesson(taken, "Assam."))

    assert before is not None
    assert KnownExchanges(tmp_path / "known.jsonl").answer([], taken) is None
