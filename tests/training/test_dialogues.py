"""The dialogues that travel with the project: what every reader of them may rely on."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from chatbot.matching import compared
from chatbot.text import clean
from training.corpus import held_out
from training.lint import Linter

_DATA = Path(str(files("training") / "data"))
_KEYS = {"id", "source", "license", "lang", "turns"}
_HAN = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module", params=["en", "zh"])
def language(request: pytest.FixtureRequest) -> str:
    """Each language has files of its own."""
    return str(request.param)


def _records(language: str, kind: str) -> list[dict[str, object]]:
    lines = (_DATA / f"{kind}.{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _turns(language: str) -> list[list[str]]:
    records = [*_records(language, "dialogues"), *_records(language, "frozen")]
    return [[str(turn) for turn in record["turns"]] for record in records if isinstance(record["turns"], list)]


def test_every_record_is_whole(language: str) -> None:
    """The documented keys and nothing else; ids that are unique; turns that alternate and end with the bot's."""
    records = [*_records(language, "dialogues"), *_records(language, "frozen")]

    assert all(record.keys() - {"opening", "also"} == _KEYS for record in records)
    assert all(record.get("opening", True) is True for record in records)
    assert {(r["source"], r["license"], r["lang"]) for r in records} == {("familect", "CC0-1.0", language)}
    assert all(re.fullmatch(rf"familect-{language}-\d{{4}}", str(record["id"])) for record in records)
    assert len({record["id"] for record in records}) == len(records)
    assert all(len(turns) % 2 == 0 and 2 <= len(turns) <= 12 for turns in _turns(language))


def test_other_ways_to_say_a_first_line_are_others(language: str) -> None:
    """`also` holds clean lines, each once, none of them the first line itself."""
    for record in [*_records(language, "dialogues"), *_records(language, "frozen")]:
        also, turns = record.get("also", []), record["turns"]
        assert isinstance(also, list)
        assert isinstance(turns, list)
        assert len({compared(line) for line in [*also, turns[0]]}) == 1 + len(also), record["id"]
        assert all(line == clean(line) and 1 <= len(line) <= 240 for line in also), record["id"]


def test_the_frozen_part_is_chosen_by_id(language: str) -> None:
    """A dialogue is frozen because of its id alone, so none moves from one part to the other."""
    assert all(held_out(str(record["id"]), 80) for record in _records(language, "frozen"))
    assert not any(held_out(str(record["id"]), 80) for record in _records(language, "dialogues"))


def test_turns_are_clean_and_short(language: str) -> None:
    """Each turn is one clean line that the model can read and say whole, in the file's language."""
    turns = [turn for dialogue in _turns(language) for turn in dialogue]

    assert [turn for turn in turns if turn != clean(turn) or not 1 <= len(turn) <= 240] == []
    han = sum(len(_HAN.findall(turn)) for turn in turns) / sum(map(len, turns))
    assert han > 0.6 if language == "zh" else han < 0.001


def test_the_linter_finds_nothing_to_mend() -> None:
    """What we ship is what `chatbot lint` asks of others: nothing nearly twice, no reply that is everywhere."""
    linter = Linter()
    paths = [_DATA / f"{kind}.{language}.jsonl" for language in ("en", "zh") for kind in ("dialogues", "frozen")]

    assert [finding for path in paths for finding in linter.read(path)] == []
    assert list(linter.repeated()) == []
    assert linter.balance.dialogues["en"] >= 2000
    assert linter.balance.dialogues["zh"] >= 1000
    assert sum(count for turns, count in linter.balance.turns.items() if turns > 2) > linter.balance.turns.total() / 2
