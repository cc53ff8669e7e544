"""The nearest known question and its reply, and dialogue files that are not what they should be."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.errors import UsageError
from chatbot.retrieval import RetrievalEngine

DIALOGUES = [
    {"id": "a", "turns": ["How old are you?", "Three weeks.", "Really?", "Really."]},
    {"id": "b", "turns": ["who are you", "Your bot."]},
    {"id": "c", "turns": ["你叫什么名字？", "我叫小家。"]},
    {"id": "d", "turns": ["?", "What is the question?"]},
    {"id": "e", "turns": ["Who are you?", "never said: the first known answer stays"]},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The dialogues above as a plain file."""
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in DIALOGUES), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "reply", "dialogue"),
    [
        ("How old are you?", "Three weeks.", "a"),
        ("how old are u", "Three weeks.", "a"),
        ("WHO ARE YOU!!", "Your bot.", "b"),
        ("你叫什么名字", "我叫小家。", "c"),
        ("你叫啥名字？", "我叫小家。", "c"),
        ("really", "Really.", "a"),
        ("？", "What is the question?", "d"),
    ],
)
def test_the_nearest_question_answers(file: Path, text: str, reply: str, dialogue: str) -> None:
    """Case, punctuation, width and a slip of the finger do not matter; the reply says where it was found."""
    found = RetrievalEngine([file]).reply_sync(["what was said before"], text)

    assert (reply, dialogue) == (found.text, found.detail)
    assert (found.model_id, found.engine) == ("retrieval", "retrieval")
    assert found.score is not None
    assert 0.5 < found.score <= 1


def test_a_known_question_scores_one(file: Path) -> None:
    """The similarity of a question with itself is 1."""
    assert RetrievalEngine([file]).reply_sync([], "who are you").score == 1


def test_the_bot_does_not_answer_with_what_people_say(file: Path) -> None:
    """Only a first speaker's turn is a question: a reply of the bot, typed by somebody, is not one."""
    found = RetrievalEngine([file]).reply_sync([], "Three weeks.")

    assert found.text != "Really?"


def test_compressed_files_read_alike(file: Path, tmp_path: Path) -> None:
    """A .zst file gives the same engine as the plain one."""
    packed = tmp_path / "talk.jsonl.zst"
    packed.write_bytes(zstandard.compress(file.read_bytes()))

    reply = asyncio.run(RetrievalEngine([packed]).reply([], "How old are you?"))

    assert reply.text == "Three weeks."


def test_the_shipped_dialogues_are_found_without_the_training_package() -> None:
    """Without a path it answers from what ships with the project, in both languages, and imports no training code."""
    before = {name for name in sys.modules if name.split(".")[0] == "training"}
    engine = RetrievalEngine()

    assert (engine.reply_sync([], "hi").score, engine.reply_sync([], "你好").score) == (1, 1)
    assert before == {name for name in sys.modules if name.split(".")[0] == "training"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no dialogues to answer from"),
        (b'{"turns": ["a", "b"]}\n{"turns": ["a"', "line 2 is no dialogue"),
        (b'{"turns": ["a"]}', "line 1 is no dialogue"),
        (b'{"turns": ["a", 3]}', "line 1 is no dialogue"),
        (b'{"turns": ["a", " "]}', "line 1 is no dialogue"),
        (b'["turns"]', "line 1 is no dialogue"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    """Empty, cut off, not a dialogue, not text: one line that says which file and where."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        RetrievalEngine([path])

    assert said in str(caught.value)


def test_a_cut_off_compressed_file_is_named(file: Path, tmp_path: Path) -> None:
    """A .zst file that is not one, or that is missing, is named."""
    packed = tmp_path / "talk.jsonl.zst"
    packed.write_bytes(file.read_bytes())

    with pytest.raises(UsageError, match="damaged or not zstd"):
        RetrievalEngine([packed])
    with pytest.raises(UsageError, match="cannot be read"):
        RetrievalEngine([tmp_path / "none.jsonl"])


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    """No input, empty or odd, makes it fail."""
    reply = ENGINE.reply_sync([], text)

    assert reply.text


@pytest.mark.parametrize("text", ["", " \t", "x" * 100_000, "\ud800", "\x00\x1b[2J", "😀😀", "مرحبا"])
def test_bad_input_gets_an_answer(text: str) -> None:
    """Blank, 100 kB, lone surrogates, control characters, emoji, right-to-left."""
    assert ENGINE.reply_sync([], text).text


ENGINE = RetrievalEngine()
