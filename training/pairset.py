"""Pairs as flat arrays of token ids, or of vectors, and batches cut from them: what `training.dataset` is for talk.

In: pairs and their tokenizer. Out: `Batch` values. What a batch holds is a function of (seed, epoch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chatbot.errors import UsageError
from chatbot.sides import PairTokenizer
from training.batches import EXACT_FROM, Batch, Ids, cuts
from training.pairs import Pair
from training.recipe import Recipe

_NAMES = ("source", "target", "source_starts", "target_starts", "weights")


@dataclass(frozen=True, slots=True)
class PairCorpus:
    """All sources behind one another, and all targets; a source's items are ids, or rows of numbers."""

    source: NDArray[np.float32] | NDArray[np.uint16]
    target: NDArray[np.uint16]
    source_starts: Ids  # (pairs + 1,)
    target_starts: Ids  # (pairs + 1,)
    weights: NDArray[np.float32]  # (pairs,)

    def save(self, folder: Path) -> None:
        """One .npy a field, so that a resumed run maps them instead of tokenising again."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _NAMES:
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> PairCorpus:
        """Memory-mapped from `save`."""
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES})


def vectors(text: str, width: int) -> NDArray[np.float32]:
    """The rows of a source that is no text: numbers between spaces, rows between slashes. UsageError if it has not."""
    try:
        rows = np.array([row.split() for row in text.split("/")], dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
            raise ValueError
    except ValueError:
        raise UsageError(f"a source is {text[:40]!r}; it must be rows of {width} numbers between slashes") from None
    return rows


def tokenise_pairs(pairs: Sequence[Pair], tokenizer: PairTokenizer, recipe: Recipe) -> PairCorpus:
    """All of `pairs`. Sources are cut at the recipe's limit; a target that is too long is an error of the caller's."""
    if recipe.pairs.vectors:
        rows = [vectors(pair.source, recipe.model.source_features) for pair in pairs]
        source = np.concatenate(rows) if rows else np.empty((0, recipe.model.source_features), np.float32)
        sizes = [len(row) for row in rows]
    else:
        encoded = tokenizer.encode_source([pair.source for pair in pairs], recipe.data.max_source_tokens)
        source = np.fromiter((i for ids in encoded for i in ids), dtype=np.uint16)
        sizes = [len(ids) for ids in encoded]
    targets = tokenizer.target.encode_batch([pair.target for pair in pairs])
    return PairCorpus(
        source,
        np.fromiter((i for ids in targets for i in ids), dtype=np.uint16),
        _starts(sizes),
        _starts([len(ids) for ids in targets]),
        np.array([pair.weight for pair in pairs], dtype=np.float32),
    )


def _starts(sizes: Sequence[int]) -> Ids:
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))).astype(np.int64)


class PairSet:
    """The pairs of a corpus, and batches of them, by tokens, by a number of pairs, or from one bucket each.

    A bucket (Sutskever et al. 2014, section 3.4; TensorFlow's tutorial of 2015) holds the pairs whose source and target
    fit into it and into no smaller one. Batches are padded to their own longest rows, and padding counts for nothing.
    """

    def __init__(self, corpus: PairCorpus, tokenizer: PairTokenizer, recipe: Recipe) -> None:
        self._corpus, self._tokenizer, self._recipe = corpus, tokenizer, recipe
        self._source_sizes: Ids = np.diff(corpus.source_starts)
        self._target_sizes: Ids = np.diff(corpus.target_starts) + 1  # with the end mark
        self.buckets = buckets_of(self._source_sizes, self._target_sizes - 1, recipe.pairs.buckets)
        self._weighed = bool((corpus.weights != 1).any())

    def __len__(self) -> int:
        return len(self._source_sizes)

    def frequencies(self) -> Ids:
        """How often each token of the vocabulary occurs in the targets: (vocabulary,). Each ends once."""
        counts = np.bincount(self._corpus.target, minlength=len(self._tokenizer)).astype(np.int64)
        counts[self._tokenizer.eos_id] += len(self)
        return counts

    def epoch(self, epoch: int, batch_tokens: int) -> list[Ids]:
        """The batches of one epoch, each the positions of its pairs, in the order of training."""
        rng = np.random.default_rng([self._recipe.seed, 2, epoch])
        rows = self._recipe.optimiser.batch_pairs
        batches: list[Ids] = []
        if rows:
            for bucket in np.unique(self.buckets):
                order = rng.permutation(np.flatnonzero(self.buckets == bucket))
                batches += np.split(order, range(rows, len(order), rows))
        else:
            order = np.lexsort((rng.random(len(self)), self._target_sizes // 4, self._source_sizes))
            groups = self._source_sizes[order] if len(self) >= EXACT_FROM else np.zeros_like(order)
            batches = np.split(order, cuts(self._target_sizes[order], batch_tokens, groups)) if len(order) else []
        return [batches[i] for i in rng.permutation(len(batches))]

    def batch(self, examples: Ids, epoch: int, *, clean: bool = False) -> Batch:
        """The arrays of `examples`."""
        corpus = self._corpus
        lengths, sizes = self._source_sizes[examples], self._target_sizes[examples]
        kind = np.float32 if self._recipe.pairs.vectors else np.int64
        source = np.full((len(examples), int(lengths.max()), *corpus.source.shape[1:]), self._tokenizer.pad_id, kind)
        target = np.full((len(examples), int(sizes.max())), -1, dtype=np.int64)
        for row, example in enumerate(examples):
            source[row, : lengths[row]] = corpus.source[slice(*corpus.source_starts[example : example + 2])]
            target[row, : sizes[row] - 1] = corpus.target[slice(*corpus.target_starts[example : example + 2])]
            target[row, sizes[row] - 1] = self._tokenizer.eos_id
        inputs = np.full_like(target, self._tokenizer.pad_id)
        inputs[:, 0] = self._tokenizer.bos_id
        inputs[:, 1:] = np.where(target[:, :-1] >= 0, target[:, :-1], self._tokenizer.pad_id)
        weights = corpus.weights[examples] if self._weighed else None
        return Batch(source, lengths, inputs, target, np.zeros(len(examples), np.bool_), weights)

    def in_order(self, batch_tokens: int) -> Iterator[tuple[Ids, Batch]]:
        """Every pair once, near lengths together: for evaluation."""
        order = np.lexsort((self._target_sizes, self._source_sizes))
        places = cuts(self._target_sizes[order], batch_tokens, np.zeros_like(order))
        for examples in np.split(order, places) if len(order) else []:
            yield examples, self.batch(examples, 0, clean=True)


def buckets_of(sources: Ids, targets: Ids, buckets: Sequence[tuple[int, int]]) -> Ids:
    """The smallest bucket that each pair of lengths fits into; all in one if there are none, -1 if it fits nowhere."""
    found = np.full(len(sources), -1 if buckets else 0, dtype=np.int64)
    for place, (longest_source, longest_target) in reversed(list(enumerate(buckets))):
        found[(sources <= longest_source) & (targets <= longest_target)] = place
    return found
