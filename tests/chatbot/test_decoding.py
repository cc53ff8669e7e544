"""Decoding against a fake model whose every score is known, so that the right answer can be worked out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from fake_runtime import BOS, EOS, FIRST, NEVER, FakeRuntime
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.decoding import DecodingOptions, DecodingResult, decode, options_from
from chatbot.errors import ChatbotError, UsageError


def one(runtime: FakeRuntime, source: Sequence[int], **options: object) -> DecodingResult:
    """Decode one request."""
    return decode(runtime, [source], [options_from(options)])[0]


def score(log_prob: float, length: int, alpha: float) -> float:
    """GNMT's normalised score; `length` counts the end mark."""
    return float(log_prob / ((5 + length) / 6) ** alpha)


def likeliest(runtime: FakeRuntime, source: Sequence[int], longest: int) -> tuple[int, ...]:
    """Greedy search as a textbook has it, at least one token long."""
    tokens: tuple[int, ...] = ()
    while len(tokens) < longest:
        scores = runtime.logits((*source, -1, BOS, *tokens)).copy()
        scores[list(NEVER)] = -np.inf
        if not tokens:
            scores[EOS] = -np.inf
        best = int(scores.argmax())
        if best == EOS:
            break
        tokens = (*tokens, best)
    return tokens


SOURCES = st.lists(st.integers(0, 50), min_size=1, max_size=3)
ALL_OPTIONS = st.one_of(
    st.fixed_dictionaries({"beam_size": st.integers(1, 5)}),
    st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.3, 1.0, 2.5]),
            "top_k": st.sampled_from([0, 1, 3, 100]),
            "top_p": st.sampled_from([0.2, 0.9, 1.0]),
            "candidates": st.integers(1, 5),
            "seed": st.integers(0, 1000),
        }
    ),
).flatmap(
    lambda chosen: st.fixed_dictionaries(
        {
            "min_tokens": st.integers(1, 4),
            "max_tokens": st.integers(4, 13),
            "no_repeat_ngram": st.integers(0, 4),
            "length_penalty": st.sampled_from([0.0, 0.7, 2.0]),
            "banned": st.lists(st.integers(FIRST, 12), max_size=4),
        }
    ).map(lambda common: {**common, **chosen})
)
QUICK = settings(deadline=None, max_examples=30)


@QUICK
@given(SOURCES)
def test_greedy_takes_the_likeliest_token_each_time(source: list[int]) -> None:
    """Greedy search is the textbook's, and what top-k 1 and a tiny nucleus come down to at any temperature."""
    runtime = FakeRuntime()
    plain = {"max_tokens": 7, "no_repeat_ngram": 0}

    expected = likeliest(runtime, source, 7)

    assert expected == one(runtime, source, **plain).tokens
    assert expected == one(runtime, source, **plain, temperature=3.0, top_k=1, seed=5).tokens
    assert expected == one(runtime, source, **plain, temperature=0.7, top_p=1e-6, seed=5).tokens


@QUICK
@given(SOURCES, st.sampled_from([0.0, 0.7, 1.5]), st.integers(1, 3))
def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all_replies(source: list[int], alpha: float, least: int) -> None:
    """A full-width beam loses nothing: neither stopping early nor dropping hopeless rows may cost the winner."""
    runtime = FakeRuntime(vocabulary=FIRST + 4)
    replies = [
        tokens
        for length in range(least, 4)
        for tokens in itertools.product(range(FIRST, runtime.vocabulary), repeat=length)
    ]

    found = one(
        runtime,
        source,
        beam_size=64,
        min_tokens=least,
        max_tokens=3,
        no_repeat_ngram=0,
        length_penalty=alpha,
    )

    best = max(replies, key=lambda tokens: score(runtime.log_prob(source, tokens), len(tokens) + 1, alpha))
    assert best == found.tokens
    assert runtime.log_prob(source, best) == pytest.approx(found.log_prob, abs=1e-4)


@QUICK
@given(SOURCES, ALL_OPTIONS, st.lists(st.integers(FIRST, 10), max_size=8))
def test_every_reply_keeps_the_rules(source: list[int], options: dict[str, object], said: list[int]) -> None:
    """Lengths within bounds; nothing banned, no marker; no n-gram twice, nor one the bot has just said."""
    chosen = options_from(options)
    result = decode(FakeRuntime(), [source], [chosen], [[said]])[0]
    tokens, n = result.tokens, chosen.no_repeat_ngram

    ngrams = [tokens[i : i + n] for i in range(len(tokens) - n + 1)] if n else []

    assert len(tokens) <= chosen.max_tokens
    assert not set(tokens) & {*NEVER, EOS, *chosen.banned}
    assert len(set(ngrams)) == len(ngrams)
    assert not set(ngrams) & {tuple(said[i : i + n]) for i in range(len(said) - n + 1)}
    if n != 1 and len(chosen.banned) < 4:  # else the words may run out
        assert len(tokens) >= chosen.min_tokens


@QUICK
@given(st.lists(st.tuples(SOURCES, ALL_OPTIONS), min_size=2, max_size=6))
def test_a_batch_answers_as_each_would_alone(requests: list[tuple[list[int], dict[str, object]]]) -> None:
    """Requests with options of their own share steps, and nothing else: same tokens, same score."""
    runtime = FakeRuntime()
    sources = [source for source, _ in requests]
    options = [options_from(chosen) for _, chosen in requests]

    together = decode(runtime, sources, options)

    assert together == [decode(runtime, [s], [o])[0] for s, o in zip(sources, options, strict=True)]


def test_the_score_worked_out_by_hand() -> None:
    """Two tokens and the end mark: three log-probabilities added, divided by ((5 + 3) / 6) ** 0.7."""
    runtime = FakeRuntime(end=-9.0)
    result = one(runtime, [7], max_tokens=2, length_penalty=0.7)

    expected = runtime.log_prob([7], result.tokens)

    assert len(result.tokens) == 2
    assert expected == pytest.approx(result.log_prob, abs=1e-5)
    assert expected / (8 / 6) ** 0.7 == pytest.approx(result.score, abs=1e-5)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.7)]
)
def test_draws_follow_the_distribution(temperature: float, top_k: int, top_p: float) -> None:
    """Over 1,709 seeds each token comes as often as softmax(logits / T), cut to top-k or the nucleus, says."""
    runtime = FakeRuntime()
    draws = 1709
    options = [
        DecodingOptions(temperature=temperature, top_k=top_k, top_p=top_p, max_tokens=1, seed=seed)
        for seed in range(draws)
    ]
    scores = runtime.logits((5, -1, BOS)).astype(np.float64)
    scores[[*NEVER, EOS]] = -np.inf
    expected = np.exp(scores / temperature)
    expected /= expected.sum()
    order = np.argsort(-expected)
    kept = order[: top_k or None]
    if top_p < 1:
        kept = order[: int((np.cumsum(expected[order]) < top_p).sum()) + 1]
    expected[np.setdiff1d(order, kept)] = 0
    expected /= expected.sum()

    results = decode(runtime, [[5]] * draws, options)

    counts = np.bincount([result.tokens[0] for result in results], minlength=runtime.vocabulary)
    assert set(np.flatnonzero(counts)) <= set(kept)
    # Five standard deviations of a share.
    assert np.abs(counts / draws - expected).max() < 5 * math.sqrt(0.25 / draws)


def test_a_seed_gives_its_reply_again() -> None:
    """The same seed repeats a drawn reply, and other seeds give others."""
    runtime = FakeRuntime()
    drawn = [one(runtime, [3], temperature=1.5, max_tokens=11, seed=seed) for seed in range(23)]

    again = [one(runtime, [3], temperature=1.5, max_tokens=11, seed=seed) for seed in range(23)]

    assert drawn == again
    assert len(set(drawn)) > 11


def test_the_best_candidate_wins() -> None:
    """Sample-and-rank: out of 37 draws between two replies, the likelier one is returned for every seed."""
    runtime = FakeRuntime()
    keep = int(np.argmax(runtime.logits((9, -1, BOS))[FIRST:])) + FIRST
    other = keep + 1 if keep + 1 < runtime.vocabulary else FIRST
    banned = [token for token in range(FIRST, runtime.vocabulary) if token not in {keep, other}]
    common = {"temperature": 2.0, "max_tokens": 1, "banned": banned}

    singles = {one(runtime, [9], seed=seed, **common).tokens for seed in range(29)}
    ranked = {one(runtime, [9], seed=seed, candidates=37, **common) for seed in range(29)}

    assert singles == {(keep,), (other,)}
    best = max(singles, key=lambda tokens: runtime.log_prob([9], tokens))
    assert {best} == {result.tokens for result in ranked}


def test_rows_leave_when_they_are_done() -> None:
    """A request starts as one row whatever its width, and its rows stop costing anything once it has ended."""
    runtime = FakeRuntime(end=-9.0)
    short, wide = options_from({"max_tokens": 2}), options_from({"max_tokens": 5, "beam_size": 3})

    decode(runtime, [[1], [2]], [short, wide])

    assert runtime.rows_stepped[:3] == [2, 4, 4]
    assert max(runtime.rows_stepped[3:]) <= 3


@QUICK
@given(SOURCES)
def test_a_beam_stays_full_beside_replies_that_end(source: list[int]) -> None:
    """Ended hypotheses do not push live ones out: until it stops, a beam of three steps with three rows."""
    runtime = FakeRuntime(end=2.0)

    one(runtime, source, beam_size=3, length_penalty=5.0)  # so steep that no row is hopeless

    assert runtime.rows_stepped[0] == 1
    assert set(runtime.rows_stepped[1:]) == {3}


def test_it_ends_when_every_word_is_forbidden() -> None:
    """With nothing left to say, a reply ends short of its minimum rather than break a ban."""
    everything = list(range(FIRST, 11))

    assert one(FakeRuntime(), [1], banned=everything, min_tokens=3).tokens == ()
    assert one(FakeRuntime(), [1], banned=everything, beam_size=4).tokens == ()


def test_a_ban_beyond_the_vocabulary_is_idle() -> None:
    """A token id that this model does not have is never said anyway."""
    assert one(FakeRuntime(), [1], banned=[99_999]) == one(FakeRuntime(), [1])


def test_scores_that_are_no_numbers_are_reported() -> None:
    """A model that gives NaN is named as the fault, with the command that checks it."""
    runtime = FakeRuntime()
    runtime.logits((4, -1, BOS))[:] = np.nan

    with pytest.raises(ChatbotError, match="chatbot models verify"):
        one(runtime, [4])


def test_no_requests_give_no_results() -> None:
    """An empty batch is answered without asking the model."""
    assert decode(FakeRuntime(), [], []) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beam_size": 0}, "beam_size is 0; it must be from 1 to 64"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"max_tokens": 100_000}, "max_tokens is 100000"),
        ({"seed": -1}, "seed is -1"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens 9 is above max_tokens 8"),
        ({"beam_size": 4, "temperature": 0.7}, "a beam does not draw; set beam_size=1"),
        ({"candidates": 4}, "set temperature=0.7 or candidates=1"),
        ({"banned": [-3]}, "banned holds -3"),
        ({"temprature": 1}, "unknown key 'temprature'; did you mean 'temperature'?"),
        ({"beam_size": "four"}, "beam_size is 'four'; it must be a whole number"),
        ({"beam_size": True}, "beam_size is True; it must be a whole number"),
        ({"banned": 3}, "banned is 3; it must be a list"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    """Each wrong option is named with its value and what would be right, before any work."""
    with pytest.raises(UsageError) as caught:
        options_from(options)

    assert said in str(caught.value)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(max_size=9) | st.sampled_from(["top_p", "seed", "banned"]), st.integers() | st.text()))
def test_any_settings_are_taken_or_refused_in_one_line(values: dict[str, object]) -> None:
    """Whatever stands in a configuration, the outcome is options or a UsageError of one line."""
    said = ""
    try:
        options_from(values)
    except UsageError as error:
        said = str(error)

    assert len(said.splitlines()) <= 1
