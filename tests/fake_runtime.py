"""A runtime without a net: every score is known, so that the right answer can be worked out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BOS, EOS, NEVER = 1, 2, (0, 1, 3)
FIRST = 4  # of the tokens that are text
Row = tuple[int, ...]


class FakeRuntime:
    """A model whose scores are a fixed random function of (source, what was said so far)."""

    bos_id: int = BOS
    eos_id: int = EOS
    never_ids: tuple[int, ...] = NEVER

    def __init__(self, vocabulary: int = 11, end: float = 0.0) -> None:
        self.vocabulary = vocabulary
        self.end = end  # added to the score of the end mark
        self.rows_stepped: list[int] = []
        self._known: dict[Row, NDArray[np.float32]] = {}

    def logits(self, row: Row) -> NDArray[np.float32]:
        """Scores (V,) behind `row`, which is the source, -1, and the tokens since."""
        if row not in self._known:
            seed = [abs(token) for token in row]
            scores = np.random.default_rng(seed).normal(scale=2, size=self.vocabulary)
            scores[EOS] += self.end
            self._known[row] = scores.astype(np.float32)
        return self._known[row]

    def encode(self, sources: Sequence[Sequence[int]]) -> list[Row]:
        """One row a source."""
        return [(*source, -1) for source in sources]

    def step(self, tokens_N: NDArray[np.int64], state: list[Row]) -> tuple[NDArray[np.float32], list[Row]]:
        """Scores (N, V) and the rows with the tokens added."""
        assert len(tokens_N) == len(state)
        self.rows_stepped.append(len(state))
        after = [(*row, int(token)) for row, token in zip(state, tokens_N, strict=True)]
        return np.stack([self.logits(row) for row in after]), after

    def select(self, state: list[Row], rows_N: NDArray[np.int64]) -> list[Row]:
        """These rows, in this order."""
        return [state[row] for row in rows_N]

    def log_prob(self, source: Sequence[int], tokens: Sequence[int]) -> float:
        """Log-probability of `tokens` and the end mark, worked out the long way."""
        total, row = 0.0, (*source, -1, BOS)
        for token in (*tokens, EOS):
            scores = self.logits(row).astype(np.float64)
            total += scores[token] - np.log(np.exp(scores).sum())
            row = (*row, token)
        return float(total)
