"""The tokenizer: nothing is unknown, nothing typed becomes a marker, contexts keep their bounds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TEXTS, tiny_tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import models

from chatbot.errors import ModelFolderError
from chatbot.text import clean
from chatbot.tokenizer import Tokenizer

TINY = tiny_tokenizer()
any_text = st.text(st.integers(0, 0x10FFFF).map(chr), max_size=23)
cleaned = any_text.map(clean)


@given(text=st.text(st.characters(exclude_categories=["Cs", "N"]), max_size=31).map(clean))
def test_text_without_digits_comes_back(text: str) -> None:
    """Decoding the ids of a cleaned text gives the text, in every script."""
    assert text == TINY.decode(TINY.encode(text))


@given(text=cleaned)
def test_nothing_is_lost_or_unknown(text: str) -> None:
    """Every character comes back, digits included; only spaces beside digits may differ."""
    assert "".join(text.split()) == "".join(TINY.decode(TINY.encode(text)).split())


@pytest.mark.parametrize(
    "text",
    [
        "12",
        "in 2024",
        "3.14",
        "at 10:30, or 5pm",
        "3天",
        "我有2只猫",
        "50% off",
        "the 1st of 3",
        "3-4",
        "I am 7!",
        "1 2",
        "(4)",
    ],
)
def test_numbers_come_back(text: str) -> None:
    """Numbers as people write them come back without spaces in the middle."""
    assert text == TINY.decode(TINY.encode(text))


@given(
    text=st.lists(st.sampled_from(["<pad>", "<s>", "</s>", "<user>", "<bot>", "<source:other>", "a", " "])).map("".join)
)
def test_typed_markers_stay_text(text: str) -> None:
    """Nobody can type a marker: the ids of any text hold none, and the text comes back."""
    ids = TINY.encode(clean(text))

    assert TINY.marker_ids.isdisjoint(ids)
    assert clean(text) == TINY.decode(ids)


@given(text=any_text.map(clean))
def test_ids_are_in_the_vocabulary(text: str) -> None:
    """Every id is below the vocabulary size and no id is a marker."""
    ids = TINY.encode(text)

    assert all(0 <= index < len(TINY) for index in ids)
    assert TINY.marker_ids.isdisjoint(ids)


@given(ids=st.lists(st.integers(0, 310)))
def test_any_ids_decode(ids: list[int]) -> None:
    """What a model may say, half characters and markers included, decodes to valid text."""
    TINY.decode([index % len(TINY) for index in ids]).encode("utf-8")


@given(texts=st.lists(cleaned, max_size=5))
def test_a_batch_is_its_members(texts: list[str]) -> None:
    """`encode_batch` is `encode` of each."""
    assert [TINY.encode(text) for text in texts] == TINY.encode_batch(texts)


@given(history=st.lists(cleaned, max_size=4), text=cleaned, limit=st.integers(4, 43))
def test_contexts_keep_their_bounds(history: list[str], text: str, limit: int) -> None:
    """At most `limit` ids: the source, then the newest turns that fit whole, the nearest one always, cut if it must."""
    context = TINY.encode_context(history, text, "familect", limit)

    nearest = TINY.encode(text)[-(limit - 2) :]
    expected, speakers = [TINY.user_id, *nearest], [TINY.bot_id, TINY.user_id]
    for age, turn in enumerate(reversed(history)):
        longer = [speakers[age % 2], *TINY.encode(turn), *expected]
        if len(longer) > limit - 1:
            break
        expected = longer
    assert [TINY.source_id("familect"), *expected] == context
    assert len(context) <= limit


def test_unknown_sources_are_other() -> None:
    """A source the tokenizer was not trained with is read as "other"."""
    assert TINY.source_id("other") == TINY.source_id("nobody knows")


def test_the_markers_have_fixed_places() -> None:
    """The ids that models rely on are 0 to 4, then the sources."""
    assert [TINY.pad_id, TINY.bos_id, TINY.eos_id, TINY.user_id, TINY.bot_id] == [0, 1, 2, 3, 4]
    assert sorted(TINY.sources.values()) == [5, 6, 7]


def test_a_hundred_kilobytes_are_quick() -> None:
    """A pasted book costs a context as much as a long line: its end is read, in well under a second."""
    begin = time.perf_counter()

    context = TINY.encode_context(["x" * 100_000] * 3, "word " * 20_000, "other", 61)

    assert time.perf_counter() - begin < 1
    assert len(context) == 61


def test_saved_and_loaded_are_equal(tmp_path: Path) -> None:
    """A tokenizer read from its file encodes, decodes and guards its markers as before."""
    TINY.save(tmp_path / "tokenizer.json")

    loaded = Tokenizer.load(tmp_path / "tokenizer.json")

    for text in (*TEXTS, "<bot> 12 \U0001f600", "</s>"):
        assert TINY.encode(text) == loaded.encode(text)
        assert TINY.decode(TINY.encode(text)) == loaded.decode(loaded.encode(text))
    assert (TINY.sources, TINY.marker_ids, len(TINY)) == (loaded.sources, loaded.marker_ids, len(loaded))


@pytest.mark.parametrize("content", [b"", b"not json", b"{}", b"\xff\xfe", b'{"version": "9"}'])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no tokenizer is named in one line."""
    (tmp_path / "tokenizer.json").write_bytes(content)

    with pytest.raises(ModelFolderError) as caught:
        Tokenizer.load(tmp_path / "tokenizer.json")

    assert "tokenizer.json is not a tokenizer" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    """A sound tokenizer without our markers is not taken for ours."""
    Backend(models.BPE()).save(str(tmp_path / "tokenizer.json"))

    with pytest.raises(ModelFolderError, match="has no <pad> marker"):
        Tokenizer.load(tmp_path / "tokenizer.json")
