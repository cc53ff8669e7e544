"""Which of several replies is said: sample-and-rank (Adiwardana et al. 2020, arXiv 2001.09977, section 2.3).

In: candidates of many requests, and the same runtime that made them, over numpy arrays. Out: the best of each request.
The score of a reply y to x, both of them token sequences, is

    (log p(y|x) - prior_weight * log p(y)) / lp(y) + reverse_weight * log p(x|y) / |x| - penalties

after Li et al. 2016 (arXiv 1510.03055), sections 4.2.1 (anti-language model) and 4.2.2 (bidirectional), with lp of
`length_penalty`. The net itself gives log p(x|y), read behind the marker `reversed`, and log p(y), read behind the
bare marker that it answers under. A net that was not trained with that marker has neither. It knows no torch.

Of a reply that was written by hand for a similar question, log p(y|x) would say little: a small net finds unlikely all
that it would not say itself. Its first term is that of the net's best candidate, and more or less by how far the
similarity of the questions is above or below what is near enough.

Shape letters: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from chatbot.decoding import Runtime, length_penalty, log_total
from chatbot.generic import is_generic
from chatbot.matching import compared
from chatbot.options import DecodingOptions
from chatbot.text import is_chinese

S = TypeVar("S")
_Pair = tuple[tuple[int, ...], tuple[int, ...]]  # a source and a target
_Values = Mapping[_Pair, float]  # their log-probabilities
_FINALISTS = 8  # candidates for which the other two likelihoods are worked out
_LONGEST_QUESTION = 24  # tokens of what was said that a reply has to lead back to
# In the unit of the score, nats a token: what lies a whole nat behind is hardly ever the better reply.
_GENERIC = 0.6
_COPY = 3.0  # times how near it comes to what the person said
_REPEATED = 4.0  # times how near it comes to what the bot has said in this talk
_OTHER_LANGUAGE = 2.0
# Nats a token from which the net is sure of its reply and needs no neighbours: what it was taught lies above -0.40, and
# what it makes up below -0.54 (the starter, its own prompts and twenty lessons).
_SURE = -0.45
_NEIGHBOUR = 8.0  # times how far the similarity of the question is above what is near enough
_NEAR_ENOUGH, _NEAR_ENOUGH_ZH = 0.46, 0.38  # lines of Chinese share fewer pairs of characters than others share words
_ALIKE_FROM = 0.6  # similarity of two lines, from 0 to 1, at which one begins to be a copy of the other


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reply that may be said. From the net it comes with its `log_prob`.

    A neighbour is what stands in the dialogue `neighbour` behind a question of this `similarity`.
    """

    text: str
    tokens: tuple[int, ...]
    log_prob: float | None = None
    neighbour: str | None = None
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class Contest:
    """The candidates of one request, and what they are judged by: `text` was said, the bot has `said` this before."""

    source: Sequence[int]
    text: str
    text_ids: Sequence[int]
    said: Sequence[str]
    options: DecodingOptions
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Markers:
    """The ids in front of a source: of the voice that answers, of a line of the bot, of reading backwards (or None)."""

    voice: int
    bot: int
    reversed: int | None


def rank(
    runtime: Runtime[S], markers: Markers, contests: Sequence[Contest], unfit: Callable[[str], bool] = lambda _: False
) -> list[tuple[Candidate, float]]:
    """The winner of each contest and its score: the best that is not `unfit`, if there is one that is not.

    All that is left to score of all of them goes through one batch.
    """
    finals = [_finalists(contest) for contest in contests]
    pairs: list[_Pair] = []
    for contest, final in zip(contests, finals, strict=True):
        for candidate in final:
            pairs += _pairs(contest, candidate, markers)
    values = dict(zip(pairs, log_probs(runtime, pairs), strict=True))
    winners = []
    for contest, final in zip(contests, finals, strict=True):
        scores = _scores(contest, final, markers, values)
        order = sorted(range(len(final)), key=lambda place: -scores[place])
        best = next((place for place in order if not unfit(final[place].text)), order[0])
        winners.append((final[best], scores[best]))
    return winners


def log_probs(runtime: Runtime[S], pairs: Sequence[_Pair]) -> list[float]:
    """log p(target, end mark | source) of each (source, target), a step of the runtime for each place of a token."""
    if not pairs:
        return []
    sources = list(dict.fromkeys(source for source, _ in pairs))
    place = {source: row for row, source in enumerate(sources)}
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][1]))  # so that those which end leave from behind
    targets = [(*pairs[i][1], runtime.eos_id) for i in order]
    state = runtime.select(runtime.encode(sources), np.array([place[pairs[i][0]] for i in order], dtype=np.int64))
    sums = np.zeros(len(pairs))
    tokens_N = np.full(len(pairs), runtime.bos_id, dtype=np.int64)
    for step in range(len(targets[0])):
        logits_NV, state = runtime.step(tokens_N, state)
        tokens_N = np.array([target[step] for target in targets if len(target) > step], dtype=np.int64)
        count = len(tokens_N)
        sums[:count] += logits_NV[np.arange(count), tokens_N] - log_total(logits_NV)
        left = sum(len(target) > step + 1 for target in targets)
        if 0 < left < count:
            state = runtime.select(state, np.arange(left))
        tokens_N = tokens_N[:left]
    found = np.empty(len(pairs))
    found[order] = sums
    return [float(value) for value in found]


def _finalists(contest: Contest) -> list[Candidate]:
    """Each text once; of those from the net the best few so far, and all neighbours unless the net is sure."""
    unique = list({candidate.text: candidate for candidate in reversed(contest.candidates)}.values())
    unique = [candidate for candidate in unique if candidate.text] or unique
    drawn = [candidate for candidate in unique if candidate.log_prob is not None]
    drawn.sort(key=lambda c: (_normalised(contest, c, c.log_prob or 0.0) - _penalty(contest, c), c.text), reverse=True)
    sure = any((c.log_prob or 0.0) > _SURE * (len(c.tokens) + 1) for c in drawn)
    return drawn[:_FINALISTS] + [candidate for candidate in unique if candidate.log_prob is None and not sure]


def _pairs(contest: Contest, candidate: Candidate, markers: Markers) -> list[_Pair]:
    pairs = []
    if markers.reversed is not None and contest.options.reverse_weight:
        pairs.append(_backwards(contest, candidate, markers.reversed, markers.bot))
    if markers.reversed is not None and contest.options.prior_weight and candidate.log_prob is not None:
        pairs.append(((markers.voice,), candidate.tokens))
    return pairs


def _backwards(contest: Contest, candidate: Candidate, marker: int, bot: int) -> _Pair:
    return (marker, bot, *candidate.tokens), tuple(contest.text_ids[:_LONGEST_QUESTION])


def _scores(contest: Contest, final: Sequence[Candidate], markers: Markers, values: _Values) -> list[float]:
    forward = [_forward(contest, candidate, markers, values) for candidate in final]
    near_enough = _NEAR_ENOUGH_ZH if is_chinese(contest.text) else _NEAR_ENOUGH
    best = max((value for value in forward if value is not None), default=0.0)
    scores = []
    for candidate, value in zip(final, forward, strict=True):
        if value is None:
            value = best + _NEIGHBOUR * (candidate.similarity - near_enough)
        if markers.reversed is not None and contest.options.reverse_weight:
            pair = _backwards(contest, candidate, markers.reversed, markers.bot)
            value += contest.options.reverse_weight * values[pair] / (len(pair[1]) + 1)
        scores.append(value - _penalty(contest, candidate))
    return scores


def _forward(contest: Contest, candidate: Candidate, markers: Markers, values: _Values) -> float | None:
    """How much likelier it is here than anywhere; None for what did not come from the net."""
    if candidate.log_prob is None:
        return None
    log_prob = candidate.log_prob
    if markers.reversed is not None and contest.options.prior_weight:
        log_prob -= contest.options.prior_weight * values[(markers.voice,), candidate.tokens]
    return _normalised(contest, candidate, log_prob)


def _normalised(contest: Contest, candidate: Candidate, log_prob: float) -> float:
    return log_prob / length_penalty(len(candidate.tokens) + 1, contest.options.length_penalty)


def _penalty(contest: Contest, candidate: Candidate) -> float:
    """What is taken off for a reply that says nothing, says what was said, or speaks another language."""
    line = compared(candidate.text)
    penalty = _COPY * _nearness(line, compared(contest.text))
    penalty += _REPEATED * max((_nearness(line, compared(turn)) for turn in contest.said), default=0.0)
    penalty += _GENERIC * is_generic(candidate.text)
    return penalty + _OTHER_LANGUAGE * (is_chinese(candidate.text) != is_chinese(contest.text))


def _nearness(line: str, other: str) -> float:
    """How much of a copy: 0 for lines with little in common, 1 for the same."""
    from rapidfuzz import fuzz  # in the function: not every reply is ranked

    return max(0.0, fuzz.ratio(line, other) / 100 - _ALIKE_FROM) / (1 - _ALIKE_FROM)
