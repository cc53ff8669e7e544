"""Dialogues as flat arrays of token ids, and batches cut from them.

In: dialogues and a tokenizer. Out: `Batch` values of numpy arrays. It knows no torch. Every turn but the first of a
dialogue is a target; its context is the turns before it. What a batch holds is a function of (seed, epoch), so that a
run can stop and resume anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chatbot.tokenizer import REVERSED, Tokenizer
from training.batches import EXACT_FROM, Batch, Ids, cuts
from training.corpus import Dialogue
from training.recipe import DataRecipe

_CHUNK = 2000  # dialogues tokenised at a time: bounds the memory of preparation


@dataclass(frozen=True, slots=True)
class TokenisedCorpus:
    """All turns behind one another, clean and noisy; `sources` is a marker id a dialogue."""

    tokens: NDArray[np.uint16]
    noisy_tokens: NDArray[np.uint16]
    turn_starts: Ids  # (turns + 1,)
    noisy_starts: Ids  # (turns + 1,)
    dialogue_starts: Ids  # (dialogues + 1,), in turns
    sources: Ids  # (dialogues,)
    shares: NDArray[np.float32]  # (dialogues,): of the epochs that show it
    taught: NDArray[np.bool_]  # (dialogues,): `last_only`
    kept: NDArray[np.bool_]  # (turns,): whether the turn is a target

    def save(self, folder: Path) -> None:
        """One .npy a field, so that a resumed run maps them instead of tokenising again."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            np.save(folder / f"{item.name}.npy", getattr(self, item.name))

    @classmethod
    def load(cls, folder: Path) -> TokenisedCorpus:
        """Memory-mapped from `save`."""
        return cls(**{item.name: np.load(folder / f"{item.name}.npy", mmap_mode="r") for item in fields(cls)})


def roughen(text: str, rng: np.random.Generator) -> str:
    """The same line as somebody in a hurry types it: lower case, no punctuation, or one slip of the finger."""
    kind = rng.integers(3)
    if kind == 0:
        return text.lower()
    if kind == 1:
        return "".join(c for c in text.lower() if c.isalnum() or c.isspace()) or text
    if len(text) < 4 or not text.isascii():
        return text.lower()
    at = int(rng.integers(1, len(text) - 2))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def tokenise(dialogues: Iterable[Dialogue], tokenizer: Tokenizer, recipe: DataRecipe, seed: int) -> TokenisedCorpus:
    """Read all of `dialogues` once; memory grows by two bytes a token."""
    rng = np.random.default_rng([seed, 1])
    parts: list[NDArray[np.uint16]] = []
    noisy_parts: list[NDArray[np.uint16]] = []
    lengths: list[int] = []
    noisy_lengths: list[int] = []
    each: list[tuple[int, float, bool, int]] = []  # marker, share, taught and turns of a dialogue
    kept: list[bool] = []
    copies: Counter[int] = Counter()
    waiting: list[Dialogue] = []

    def flush() -> None:
        texts = [turn for dialogue in waiting for turn in dialogue.turns]
        for destination, sizes, encoded in (
            (parts, lengths, tokenizer.encode_batch(texts)),
            (noisy_parts, noisy_lengths, tokenizer.encode_batch([roughen(text, rng) for text in texts])),
        ):
            sizes.extend(map(len, encoded))
            destination.append(np.fromiter((i for ids in encoded for i in ids), dtype=np.uint16))
        waiting.clear()

    for dialogue in dialogues:
        if dialogue.quality is not None and dialogue.quality < recipe.min_quality:
            continue
        source = tokenizer.source_id(recipe.rename.get(dialogue.source, dialogue.source))
        each.append((source, dialogue.share, dialogue.last_only, len(dialogue.turns)))
        first_target = len(dialogue.turns) - 1 if dialogue.last_only else 1
        for position, turn in enumerate(dialogue.turns):
            key = hash(turn)
            copies[key] += position >= first_target
            kept.append(position >= first_target and copies[key] <= recipe.max_reply_copies)
        waiting.append(dialogue)
        if len(waiting) == _CHUNK:
            flush()
    if waiting:
        flush()
    sources, shares, taught, turns_each = zip(*each, strict=True) if each else ((), (), (), ())
    return TokenisedCorpus(
        np.concatenate([*parts, np.empty(0, np.uint16)]),
        np.concatenate([*noisy_parts, np.empty(0, np.uint16)]),
        np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64),
        np.concatenate(([0], np.cumsum(noisy_lengths, dtype=np.int64))).astype(np.int64),
        np.concatenate(([0], np.cumsum(turns_each, dtype=np.int64))).astype(np.int64),
        np.array(sources, dtype=np.int64),
        np.array(shares, dtype=np.float32),
        np.array(taught, dtype=np.bool_),
        np.array(kept, dtype=np.bool_),
    )


class ExampleSet:
    """The targets of a corpus with the shape of their contexts, and batches of them.

    A batch is named by the positions of its examples. Position p + n of a set of n is example p reversed (its target is
    read, under the marker for that, and the turn before it is learnt), p + 2n is example p with nothing to read: what
    `chatbot.ranking` needs, to tell whether a reply fits what it answers, and whether it would fit anything.
    """

    def __init__(self, corpus: TokenisedCorpus, tokenizer: Tokenizer, recipe: DataRecipe, seed: int) -> None:
        self._corpus, self._tokenizer, self._recipe, self._seed = corpus, tokenizer, recipe, seed
        self._targets: Ids = np.flatnonzero(corpus.kept).astype(np.int64)
        self._dialogue_of: Ids = np.searchsorted(corpus.dialogue_starts, self._targets, side="right") - 1
        self._first_turn: Ids = corpus.dialogue_starts[self._dialogue_of]
        self._shares = self._share_by_source(recipe.weights)
        self._shapes = [self._context_shape(corpus.turn_starts), self._context_shape(corpus.noisy_starts)]
        sizes = np.diff(corpus.turn_starts)[self._targets]
        answered = np.diff(corpus.turn_starts)[self._targets - 1]
        plain, back = (np.minimum(part, recipe.max_target_tokens - 1) + 1 for part in (sizes, answered))
        self._target_sizes: Ids = np.concatenate((plain, back, plain))
        read = np.minimum(sizes, recipe.max_source_tokens - 2) + 2
        self._odd_lengths: Ids = np.concatenate((read, np.ones_like(read)))  # of the reversed and the blank

    def __len__(self) -> int:
        return len(self._targets)

    def frequencies(self) -> Ids:
        """How often each token of the vocabulary occurs in the corpus: (vocabulary,)."""
        return np.bincount(self._corpus.tokens, minlength=len(self._tokenizer)).astype(np.int64)

    @property
    def source_ids(self) -> Ids:
        """Marker id of each example."""
        return self._corpus.sources[self._dialogue_of]

    def _share_by_source(self, weights: Mapping[str, float]) -> NDArray[np.float64]:
        known = self._tokenizer.sources
        by_id = {known[name]: share for name, share in weights.items() if name in known}
        sources = self._corpus.sources[self._dialogue_of]
        by_source = np.array([by_id.get(int(source), 1.0) for source in sources], dtype=np.float64)
        return by_source * self._corpus.shares[self._dialogue_of]

    def _context_shape(self, starts: Ids) -> tuple[Ids, Ids]:
        """Turns and tokens of each example's context: as `Tokenizer.encode_context` would choose them."""
        budget = self._recipe.max_source_tokens - 1
        sizes = np.diff(starts)
        total = np.minimum(sizes[self._targets - 1], budget - 1) + 1
        turns = np.ones_like(total)
        growing = np.ones(len(total), dtype=np.bool_)
        for back in range(2, self._recipe.context_turns + 1):
            turn = self._targets - back
            growing &= turn >= self._first_turn
            longer = total + sizes[np.maximum(turn, 0)] + 1
            growing &= longer <= budget
            total = np.where(growing, longer, total)
            turns += growing
        return turns, total + 1

    def epoch(self, epoch: int, batch_tokens: int) -> list[Ids]:
        """The batches of one epoch, each the positions of its examples, in the order of training.

        Large sets get batches of one exact source length (no source padding at all); small ones would fall apart
        into batches of a few rows and are cut by nearest length instead.
        """
        rng = np.random.default_rng([self._seed, 2, epoch])
        # A share of 2.5 means: twice, and half of the examples a third time.
        times = np.floor(self._shares + rng.random(len(self))).astype(np.int64)
        chosen = np.repeat(np.arange(len(self)), times)
        noisy = self._noisy(epoch)[chosen]
        source = np.where(noisy, self._shapes[1][1][chosen], self._shapes[0][1][chosen])
        if odd := self._odd(chosen, rng):
            source = np.concatenate((source, self._odd_lengths[np.concatenate(odd) - len(self)]))
            chosen = np.concatenate((chosen, *odd))
        target = self._target_sizes[chosen]
        order = np.lexsort((rng.random(len(chosen)), target // 4, source))
        exact = len(chosen) >= EXACT_FROM
        places = cuts(target[order], batch_tokens, source[order] if exact else np.zeros_like(order))
        batches = np.split(chosen[order], places) if len(order) else []
        shuffled = rng.permutation(len(batches))
        return [batches[i] for i in shuffled]

    def _odd(self, chosen: Ids, rng: np.random.Generator) -> list[Ids]:
        """Positions of the reversed and the blank examples that go with `chosen`."""
        shares = (self._recipe.reversed if REVERSED in self._tokenizer.sources else 0.0, self._recipe.blank)
        return [
            chosen[rng.random(len(chosen)) < share] + kind * len(self)
            for kind, share in enumerate(shares, start=1)
            if share
        ]

    def _noisy(self, epoch: int) -> NDArray[np.bool_]:
        return np.random.default_rng([self._seed, 3, epoch]).random(len(self)) < self._recipe.noise

    def batch(self, examples: Ids, epoch: int, *, clean: bool = False, anonymous: float = 0.1) -> Batch:
        """The arrays of `examples`; `clean` for evaluation. A share `anonymous` loses its source marker."""
        kinds, plain = np.divmod(examples, len(self))
        noisy = np.zeros(len(examples), np.bool_) if clean else self._noisy(epoch)[plain]
        rng = np.random.default_rng([self._seed, 4, epoch, int(examples[0])])
        unmarked = rng.random(len(examples)) < (0.0 if clean else anonymous)
        rows = [
            (self._context, self._reversed, self._blank)[kind](int(example), bool(rough), bool(blank))
            for kind, example, rough, blank in zip(kinds, plain, noisy, unmarked, strict=True)
        ]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        source = np.full((len(rows), int(lengths.max())), self._tokenizer.pad_id, dtype=np.int64)
        for row, ids in zip(source, rows, strict=True):
            row[: len(ids)] = ids
        sizes = self._target_sizes[examples]
        target = np.full((len(rows), int(sizes.max())), -1, dtype=np.int64)
        turns = self._targets[plain] - (kinds == 1)
        for row, turn, size in zip(target, turns, sizes, strict=True):
            begin, end = self._corpus.turn_starts[turn : turn + 2]
            kept = min(int(size), int(end - begin))
            row[:kept] = self._corpus.tokens[begin : begin + kept]
            if end - begin < size:  # a reply that was cut off does not teach to stop there
                row[size - 1] = self._tokenizer.eos_id
        inputs = np.full_like(target, self._tokenizer.pad_id)
        inputs[:, 0] = self._tokenizer.bos_id
        inputs[:, 1:] = np.where(target[:, :-1] >= 0, target[:, :-1], self._tokenizer.pad_id)
        return Batch(source, lengths, inputs, target, self._corpus.taught[self._dialogue_of[plain]])

    def _context(self, example: int, noisy: bool, anonymous: bool) -> Ids:
        turns = int(self._shapes[noisy][0][example])
        tokens = self._corpus.noisy_tokens if noisy else self._corpus.tokens
        starts = self._corpus.noisy_starts if noisy else self._corpus.turn_starts
        target = int(self._targets[example])
        speakers = (self._tokenizer.user_id, self._tokenizer.bot_id)
        limit = self._recipe.max_source_tokens - 2
        parts: list[NDArray[np.int64]] = [np.array([self._source(example, anonymous)])]
        for back in range(turns, 0, -1):
            ids = tokens[starts[target - back] : starts[target - back + 1]]
            parts.append(np.array([speakers[(back + 1) % 2]]))
            parts.append(ids[-limit:].astype(np.int64))
        return np.concatenate(parts)

    def _reversed(self, example: int, noisy: bool, anonymous: bool) -> Ids:
        """The reply of `example`, whose context is what it answers; as it stands, whatever the context looks like."""
        turn = self._targets[example]
        ids = self._corpus.tokens[self._corpus.turn_starts[turn] : self._corpus.turn_starts[turn + 1]]
        kept = ids[: self._recipe.max_source_tokens - 2].astype(np.int64)
        return np.concatenate(([self._tokenizer.source_id(REVERSED), self._tokenizer.bot_id], kept))

    def _blank(self, example: int, noisy: bool, anonymous: bool) -> Ids:
        """The source marker of `example` alone."""
        return np.array([self._source(example, anonymous)], dtype=np.int64)

    def _source(self, example: int, anonymous: bool) -> int:
        if anonymous:
            return self._tokenizer.source_id("other")
        return int(self._corpus.sources[self._dialogue_of[example]])

    def in_order(self, batch_tokens: int) -> Iterator[tuple[Ids, Batch]]:
        """Every example once, clean, near lengths together: for evaluation."""
        order = np.lexsort((self._target_sizes[: len(self)], self._shapes[0][1]))
        places = cuts(self._target_sizes[order], batch_tokens, np.zeros_like(order))
        for examples in np.split(order, places) if len(order) else []:
            yield examples, self.batch(examples, 0, clean=True)
