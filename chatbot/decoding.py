"""From scores to a reply: filters, choice and stop, one loop for greedy, sampling and beam search.

In: a runtime (two functions, `encode` and `step`, over numpy arrays) and token ids. Out: token ids and a score. It
knows no text, no torch and no queue. What belongs to a request lives in local variables of one call of `decode`.

Shape letters: N rows of all requests, R rows of one request, V vocabulary, K tokens left to draw from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from chatbot.errors import ChatbotError
from chatbot.options import DecodingOptions, options_from

__all__ = [
    "DecodingOptions",
    "DecodingResult",
    "Runtime",
    "decode",
    "decode_all",
    "length_penalty",
    "log_total",
    "options_from",
]

S = TypeVar("S")
_FEW_DOZEN = 64
Scores = NDArray[np.float32]
Ids = NDArray[np.int64]


class Runtime(Protocol[S]):
    """A model to decode with; `S` is its state, opaque here. Rows do not influence one another."""

    bos_id: int
    eos_id: int
    never_ids: tuple[int, ...]  # tokens that are no text: padding, speakers, sources

    def encode(self, sources: Sequence[Sequence[int]]) -> S:
        """The state before the first token, one row a source."""

    def step(self, tokens_N: Ids, state: S) -> tuple[Scores, S]:
        """Scores (N, V) of the token after `tokens_N`, in an array that the caller may change; and the new state."""

    def select(self, state: S, rows_N: Ids) -> S:
        """The state of `rows_N`, in that order, repeats allowed."""


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """A reply's tokens without the end mark, its log-probability with it, and that divided by the length penalty."""

    tokens: tuple[int, ...]
    log_prob: float
    score: float


class _Hypothesis(NamedTuple):
    tokens: tuple[int, ...]
    log_prob: float


class _Extension(NamedTuple):
    row: int
    token: int
    log_prob: float  # of the token alone


class _Search:
    """One request on its way: its live hypotheses, a row each, and those that have ended."""

    def __init__(self, options: DecodingOptions, said: Sequence[Sequence[int]], eos_id: int) -> None:
        self.options = options
        self.eos_id = eos_id
        self.live = [_Hypothesis((), 0.0)]
        self.ended: list[_Hypothesis] = []
        self._rng = np.random.default_rng(options.seed)
        self._banned = np.array(options.banned, dtype=np.int64)
        self._said = _ngrams(said, options.no_repeat_ngram)

    def advance(self, logits_RV: Scores, total_R: Scores) -> list[int]:
        """Take one step: filter, choose, stop. Returns the row from which each hypothesis still live has grown."""
        for logits_V, hypothesis in zip(logits_RV, self.live, strict=True):
            self._filter(logits_V, hypothesis.tokens)
        width = max(self.options.beam_size, self.options.candidates)
        grown: list[tuple[int, _Hypothesis]] = []
        for row, token, log_prob in self._choose(logits_RV, total_R):
            tokens, before = self.live[row]
            if token == self.eos_id:
                self.ended.append(_Hypothesis(tokens, before + log_prob))
            else:
                grown.append((row, _Hypothesis((*tokens, token), before + log_prob)))
            if len(grown) == width:
                break
        if self.options.beam_size > 1 and len(self.ended) >= width:
            grown = []
        if not self.options.rank:  # else other things than the likelihood may let the less likely win
            # A log-probability only falls, and no length divides it by more than the longest: what cannot win leaves
            # now (Huang, Zhao, Ma 2017, arXiv 1809.00069, section 3).
            best = max((self._score(hypothesis) for hypothesis in self.ended), default=-math.inf)
            most = length_penalty(self.options.max_tokens + 1, self.options.length_penalty)
            grown = [(row, hypothesis) for row, hypothesis in grown if hypothesis.log_prob / most > best]
        self.live = [hypothesis for _, hypothesis in grown]
        return [row for row, _ in grown]

    def results(self) -> list[DecodingResult]:
        """The hypotheses that have ended, best first."""
        best = sorted(self.ended, key=self._score, reverse=True)
        return [DecodingResult(h.tokens, h.log_prob, self._score(h)) for h in best]

    def _score(self, hypothesis: _Hypothesis) -> float:
        return hypothesis.log_prob / length_penalty(len(hypothesis.tokens) + 1, self.options.length_penalty)

    def _filter(self, logits_V: Scores, tokens: tuple[int, ...]) -> None:
        """Forbid, in place, what may not follow `tokens`; at least one token stays possible."""
        end = logits_V[self.eos_id]
        if len(tokens) >= self.options.max_tokens:
            logits_V.fill(-np.inf)
        else:
            logits_V[self._banned[self._banned < len(logits_V)]] = -np.inf
            logits_V[_repeats(tokens, self.options.no_repeat_ngram, self._said)] = -np.inf
            if len(tokens) < self.options.min_tokens:
                logits_V[self.eos_id] = -np.inf
            if logits_V.max() > -np.inf:
                return
        logits_V[self.eos_id] = end

    def _choose(self, logits_RV: Scores, total_R: Scores) -> list[_Extension]:
        if self.options.beam_size > 1:
            chosen = _widest(logits_RV, total_R, [h.log_prob for h in self.live], 2 * self.options.beam_size)
        elif self.options.temperature > 0:
            first = not self.live[0].tokens
            chosen = _draw(logits_RV, self.options, self._rng, self.options.candidates if first else 1)
        else:
            chosen = [(0, int(logits_RV[0].argmax()))]
        return [_Extension(row, token, float(logits_RV[row, token]) - float(total_R[row])) for row, token in chosen]


def length_penalty(length: int, alpha: float) -> float:
    """lp(Y) = ((5 + |Y|) / 6)^alpha: Wu et al. 2016 (GNMT), equation 14; |Y| counts the end mark."""
    return float(((5 + length) / 6) ** alpha)


def _ngrams(said: Sequence[Sequence[int]], n: int) -> dict[tuple[int, ...], list[int]]:
    """The first n - 1 tokens of each n-gram of `said` -> the tokens that complete one; empty for n = 0."""
    completions: dict[tuple[int, ...], list[int]] = {}
    for tokens in said if n else ():
        for start in range(len(tokens) - n + 1):
            completions.setdefault(tuple(tokens[start : start + n - 1]), []).append(tokens[start + n - 1])
    return completions


def _repeats(tokens: tuple[int, ...], n: int, said: Mapping[tuple[int, ...], list[int]]) -> list[int]:
    """Tokens that would complete an n-gram that `tokens` already holds, or one of `said`; none for n = 0."""
    if n == 0 or len(tokens) < n - 1:
        return []
    tail = tokens[len(tokens) - n + 1 :]
    own = [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == tail]
    return own + said.get(tail, [])


def _widest(logits_RV: Scores, total_R: Scores, before: Sequence[float], count: int) -> list[tuple[int, int]]:
    """The `count` likeliest (row, token), best first. Each row can end once, so 2 beams of them fill a beam."""
    sums_RV = logits_RV + (np.array(before) - total_R).astype(np.float32)[:, None]
    flat = sums_RV.ravel()
    # The largest of each few dozen first, a tenth of the time: what is above the `count`-th of those is enough.
    whole = len(flat) // _FEW_DOZEN * _FEW_DOZEN
    largest = np.concatenate((flat[:whole].reshape(-1, _FEW_DOZEN).max(axis=1), flat[whole:]))
    floor = np.partition(largest, -count)[-count] if count < len(largest) else -np.inf
    best = np.flatnonzero(flat >= floor)
    best = best[np.lexsort((best, -flat[best]))][:count]
    return [divmod(int(i), logits_RV.shape[1]) for i in best if flat[i] > -np.inf]


def _draw(logits_RV: Scores, options: DecodingOptions, rng: np.random.Generator, draws: int) -> list[tuple[int, int]]:
    """`draws` tokens from each row, as (row, token)."""
    chosen: list[tuple[int, int]] = []
    for row, logits_V in enumerate(logits_RV):
        ids_K, weights_K = _nucleus(logits_V, options)
        sums_K = weights_K.cumsum(dtype=np.float64)
        places = np.searchsorted(sums_K, rng.random(draws) * sums_K[-1], side="right")
        chosen += [(row, int(ids_K[min(int(place), len(ids_K) - 1)])) for place in places]
    return chosen


def _nucleus(logits_V: Scores, options: DecodingOptions) -> tuple[Ids, Scores]:
    """The tokens (K,) that may be drawn and their weights: temperature, then top-k, then top-p of what is left."""
    weights_V = np.exp((logits_V - logits_V.max()) / np.float32(options.temperature))
    top_k = options.top_k if options.top_k < len(weights_V) else 0
    if top_k:
        floor = np.partition(weights_V, -top_k)[-top_k]
        ids_K = np.flatnonzero((weights_V >= floor) & (weights_V > 0))
    else:
        # All tokens below this together weigh less than what top_p leaves out: sorting the others is enough.
        floor = weights_V.sum() * np.float32((1 - options.top_p) / len(weights_V))
        ids_K = np.flatnonzero(weights_V > floor)
        if options.top_p == 1:
            return ids_K, weights_V[ids_K]
    ids_K = ids_K[np.argsort(-weights_V[ids_K], kind="stable")]
    ids_K = ids_K[: top_k or None]
    sums_K = weights_V[ids_K].cumsum(dtype=np.float64)
    whole = sums_K[-1] if top_k else weights_V.sum(dtype=np.float64)
    ids_K = ids_K[: int(np.searchsorted(sums_K, options.top_p * whole)) + 1]
    return ids_K, weights_V[ids_K]


def log_total(logits_NV: Scores) -> Scores:
    """log of the sum of exp of each row (N,); ChatbotError if the model's scores are no numbers."""
    top_N = logits_NV.max(axis=1)
    total_N: Scores = np.log(np.exp(logits_NV - top_N[:, None]).sum(axis=1)) + top_N
    if not np.isfinite(total_N).all():
        raise ChatbotError("the model's scores are not numbers; check it with `chatbot models verify`")
    return total_N


def decode(
    runtime: Runtime[S],
    sources: Sequence[Sequence[int]],
    options: Sequence[DecodingOptions],
    said: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[DecodingResult]:
    """Answer each of `sources` by its own `options`; the results are those of answering it alone.

    `said` holds, a request each, token sequences whose n-grams (of `no_repeat_ngram`) must not be said again.
    """
    return [results[0] for results in decode_all(runtime, sources, options, said)]


def decode_all(
    runtime: Runtime[S],
    sources: Sequence[Sequence[int]],
    options: Sequence[DecodingOptions],
    said: Sequence[Sequence[Sequence[int]]] | None = None,
) -> list[list[DecodingResult]]:
    """`decode` with every reply that was found to its end, best first; with `rank`, none was given up on the way."""
    if not sources:
        return []
    before = said or [()] * len(sources)
    searches = [_Search(o, b, runtime.eos_id) for o, b in zip(options, before, strict=True)]
    never = np.array(runtime.never_ids, dtype=np.int64)
    state = runtime.encode(sources)
    tokens_N = np.full(len(sources), runtime.bos_id, dtype=np.int64)
    live = searches
    while live:
        logits_NV, state = runtime.step(tokens_N, state)
        total_N = log_total(logits_NV)
        logits_NV[:, never] = -np.inf
        rows: list[int] = []
        start = 0
        for search in live:
            end = start + len(search.live)
            rows += [start + row for row in search.advance(logits_NV[start:end], total_N[start:end])]
            start = end
        live = [search for search in live if search.live]
        tokens_N = np.array([h.tokens[-1] for search in live for h in search.live], dtype=np.int64)
        if live and rows != list(range(start)):  # beams moved, or rows left
            state = runtime.select(state, np.array(rows, dtype=np.int64))
    return [search.results() for search in searches]
