"""The canonical form of text, for every string there can be."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbot.text import clean, is_chinese

# Lone surrogates, controls and unassigned code points included.
any_text = st.text(st.integers(0, 0x10FFFF).map(chr), max_size=40)


@given(text=any_text)
@example(text="e\u200b\u0301")
@example(text="e\x07\u0301")
@example(text="\ud83d\u200b\ude00")
@example(text="\ufeffhi\ud800")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    """`clean` is idempotent: what is stored and cleaned again stays equal."""
    once = clean(text)

    assert once == clean(once)


@given(text=any_text)
def test_the_result_is_one_valid_line(text: str) -> None:
    """No control characters, no double or outer spaces, composed, and it encodes as UTF-8."""
    result = clean(text)

    assert result.encode("utf-8").decode("utf-8") == result
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in result)
    assert result == " ".join(result.split())
    assert unicodedata.is_normalized("NFC", result)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("  two\u3000words\n", "two words"),
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u202eevil\u202c", "evil"),
        ("half \ud83d moon", "half \ufffd moon"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("\u0634\u0643\u0631\u0627", "\u0634\u0643\u0631\u0627"),
    ],
)
def test_cases(text: str, expected: str) -> None:
    """The cases people meet: blank, controls, accents in two parts, overrides, emoji families, right-to-left."""
    assert expected == clean(text)


@pytest.mark.parametrize(("text", "expected"), [("你好", True), ("ok 好", True), ("こんにちは", False), ("hi", False)])
def test_han_makes_it_chinese(text: str, expected: bool) -> None:
    """One Han character is enough, kana and Latin letters are not."""
    assert expected is is_chinese(text)
