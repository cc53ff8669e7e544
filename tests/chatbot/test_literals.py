"""What a pattern needs is really needed: an expression that is not compiled would not have matched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.literals import Expression, needed
from chatbot.rules import Rules

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = st.text("ab杀", min_size=1, max_size=3)
PATTERNS = st.recursive(
    WORDS | st.builds("{}?".format, WORDS) | st.builds("{}{{0,2}}".format, WORDS) | st.just("[ab]"),
    lambda inner: (
        st.builds("({}|{})".format, inner, inner)
        | st.builds("({}|{})?".format, inner, inner)
        | st.builds("{} ?{}".format, inner, inner)
        | st.builds("(?!{}){}".format, inner, inner)
        | st.builds("({}){{1,2}}".format, inner)
    ),
    max_leaves=6,
)


def expression(pattern: str) -> Expression:
    """Of one pattern without lists."""
    return Expression("(?:%s)", [pattern], [pattern], {})


@given(PATTERNS, st.text("ab杀 ", max_size=9))
def test_nothing_that_matches_is_passed_over(pattern: str, text: str) -> None:
    """Any pattern on any text: the same answer as from the regular expression itself."""
    assert expression(pattern).matches(text) is (re.search(pattern, text) is not None)
    assert expression(pattern).replaced(text, "|") == re.sub(pattern, "|", text)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("kill (him|her)", {"kill"}),
        ("(kill|hurt) (him|them)", {"kill", "hurt"}),
        ("(a |an )?bombs?", {"bomb"}),
        ("{person} dies", {"dies"}),
        ("{person} is", {"somebody", "you"}),
        ("(?!kill)[a-z]{1,9}", None),
        ("(really )?", None),
        ("杀(了)?人", {"杀"}),
    ],
)
def test_what_a_pattern_needs(pattern: str, expected: set[str] | None) -> None:
    """The longest part that cannot be missing; of alternatives, one of each."""
    person = Expression("(?:%s)", ["somebody", "you"], ["somebody", "you"], {})

    assert needed(pattern, {"person": person}) == (None if expected is None else frozenset(expected))


def test_the_shipped_rules_judge_as_if_all_were_compiled() -> None:
    """Every line of the red-team file, by rules that compile as they go and by rules that compiled all before."""
    lazy, ready = Rules.load(), Rules.load()
    for rule in (*ready._before, *ready._after):
        for each in rule.expressions.values():
            each.compiled()
    texts = [json.loads(line)["text"] for line in (ROOT / "tests/data/red_team.jsonl").read_text("utf-8").splitlines()]

    assert len(texts) > 300
    for text in texts:
        assert lazy.before(text) == ready.before(text), text
        assert lazy.after(text) == ready.after(text), text


def test_a_greeting_compiles_next_to_nothing() -> None:
    """The first reply must not wait for the expressions about weapons."""
    rules = Rules.load()

    rules.before("hi")

    assert not [r.name for r in rules._before for each in r.expressions.values() if each._compiled]
