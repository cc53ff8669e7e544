"""Ranking: likelihoods worked out the long way, and which reply each of the terms lets win."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from fake_runtime import FakeRuntime
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.generic import is_generic
from chatbot.options import options_from
from chatbot.ranking import Candidate, Contest, Markers, log_probs, rank

VOICE, BOT, REVERSED = 3, 4, 5
BACKWARDS = Markers(VOICE, BOT, REVERSED)
FORWARDS = Markers(VOICE, BOT, None)
TOKENS = st.lists(st.integers(6, 10), max_size=5).map(tuple)


def contest(candidates: Sequence[Candidate], text: str = "i like tea", **changes: Any) -> Contest:
    """A contest for the reply to "i like tea"."""
    said = changes.pop("said", [])
    return Contest([7, 8], text, [9, 10], said, options_from({"rank": True, **changes}), candidates)


def winner(*args: Any, markers: Markers = FORWARDS, **changes: Any) -> str:
    """The text that wins."""
    return rank(FakeRuntime(), markers, [contest(*args, **changes)])[0][0].text


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.lists(st.integers(0, 50), min_size=1, max_size=3).map(tuple), TOKENS), max_size=6))
def test_given_replies_are_scored_as_the_model_scores_them(
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]],
) -> None:
    """All in one batch, of any length and order: the log-probability of each and its end mark, as worked out alone."""
    runtime = FakeRuntime()

    found = log_probs(runtime, pairs)

    assert found == pytest.approx([runtime.log_prob(*pair) for pair in pairs], abs=1e-4)


def test_the_score_worked_out_by_hand() -> None:
    """(log p(y|x) - 0.15 log p(y)) / lp(y) + 0.4 log p(x|y) / |x|: three log-probabilities, end marks counted."""
    runtime = FakeRuntime()
    reply = Candidate("green or black?", (6, 7, 8), runtime.log_prob([7, 8], [6, 7, 8]))
    backwards = runtime.log_prob([REVERSED, BOT, 6, 7, 8], [9, 10]) / 3

    _, score = rank(runtime, BACKWARDS, [contest([reply])])[0]

    anywhere = runtime.log_prob([VOICE], [6, 7, 8])
    assert reply.log_prob is not None
    expected = (reply.log_prob - 0.15 * anywhere) / (9 / 6) ** 0.7 + 0.4 * backwards
    assert score == pytest.approx(expected, abs=1e-4)


def test_without_the_marker_the_likelihood_alone_counts() -> None:
    """A net that never learnt to read backwards is not asked to."""
    runtime = FakeRuntime()
    reply = Candidate("green or black?", (6, 7, 8), -4.0)

    _, score = rank(runtime, FORWARDS, [contest([reply])])[0]

    assert runtime.rows_stepped == []
    assert score == pytest.approx(-4.0 / (9 / 6) ** 0.7)


def test_what_must_not_be_said_is_passed_over() -> None:
    """The best candidate that is fit wins; if none is, the best."""
    contests = [contest([Candidate("Bad tea.", (6, 7), -1.0), Candidate("Green tea.", (8, 9), -2.0)])]

    fit, none = (
        rank(FakeRuntime(), FORWARDS, contests, unfit)[0][0] for unfit in (lambda t: "Bad" in t, lambda t: True)
    )

    assert (fit.text, none.text) == ("Green tea.", "Bad tea.")


@pytest.mark.parametrize(
    ("poor", "text", "said"),
    [
        ("I like tea.", "i like tea", []),
        ("That is nice, I know.", "i like tea", []),
        ("With milk, or plain?", "i like tea", ["with milk or plain"]),
        ("With milk or plain", "i like tea", ["And you?", "With milk, or just plain?"]),
        ("绿茶还是红茶？", "i like tea", []),
        ("", "i like tea", []),
    ],
)
def test_what_loses_although_it_is_likelier(poor: str, text: str, said: list[str]) -> None:
    """A copy of what was said, a commonplace, what the bot has said before, another language, and nothing at all."""
    likelier, better = Candidate(poor, (6, 7), -1.0), Candidate("Green tea with honey, perhaps?", (8, 9), -1.4)

    assert winner([likelier, better], text, said=said) == better.text
    assert winner([Candidate("Green tea or black?", (6, 7), -1.0), better], text) == "Green tea or black?"


def test_a_neighbour_has_to_fit_and_to_be_near() -> None:
    """A known reply to a similar question is as likely as the likeliest, and better or worse by the similarity."""
    runtime = FakeRuntime()
    known = Candidate("Peppermint, says the kettle.", (6, 6), None, "tea-1", 0.7)
    far = Candidate("Peppermint, says the kettle.", (6, 6), None, "tea-1", 0.45)
    drawn = Candidate("Green tea or black?", (8, 9), -5.0)

    near = rank(runtime, FORWARDS, [contest([drawn, known])])[0][0]
    other = rank(runtime, FORWARDS, [contest([drawn, far])])[0][0]
    copied = rank(runtime, FORWARDS, [contest([drawn, known], said=["Peppermint, says the kettle!"])])[0][0]

    assert (near.neighbour, other.neighbour, copied.neighbour) == ("tea-1", None, None)
    assert runtime.rows_stepped == []


def test_a_net_that_is_sure_is_not_overruled() -> None:
    """What it says with most of its probability, as it does what it was taught, needs no neighbours."""
    near = Candidate("Dry two fingers deep means water.", (6, 7), None, "familect-en-1", 1.0)

    assert winner([Candidate("Grandma does.", (8, 9), -1.3), near]) == "Grandma does."
    assert winner([Candidate("Grandma does.", (8, 9), -1.4), near]) == near.text


@settings(deadline=None, max_examples=20)
@given(st.lists(st.lists(st.tuples(TOKENS, st.booleans()), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_batch_is_ranked_as_each_would_be_alone(drawn: list[list[tuple[tuple[int, ...], bool]]]) -> None:
    """Contests share the steps of the model, and nothing else."""
    runtime = FakeRuntime()
    contests = [
        contest(
            [Candidate(f"tea {tokens}", tokens, runtime.log_prob([7, 8], tokens) if own else None) for tokens, own in c]
        )
        for c in drawn
    ]

    together = rank(runtime, BACKWARDS, contests)

    alone = [rank(runtime, BACKWARDS, [c])[0] for c in contests]
    assert [c.text for c, _ in together] == [c.text for c, _ in alone]
    assert np.allclose([score for _, score in together], [score for _, score in alone])


@pytest.mark.parametrize(
    ("reply", "generic"),
    [
        ("I see.", True),
        ("That's great! What about you?", True),
        ("I don't know what you mean.", True),
        ("Green tea with honey?", False),
        ("我明白了。", True),
        ("好的，谢谢你！", True),
        ("茶要凉了。", False),
        ("", True),
    ],
)
def test_generic_replies(reply: str, generic: bool) -> None:
    """Generic is what has no word about anything."""
    assert is_generic(reply) == generic
